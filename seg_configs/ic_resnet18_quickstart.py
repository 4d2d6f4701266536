# The digits of the quickstart with an IC-ResNet-18 of three eighths of the usual width. Ours.
_base_ = './quickstart_upernet.py'
custom_imports = dict(imports=['revcol_backbone.ic.segmentation'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='ICResNet', depth=18, base_channels=24, norm_eval=False)
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'collision_': dict(decay_mult=0.0)}))

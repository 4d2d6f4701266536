# IC-ResNet-50 in segmentors: what depends neither on the head nor on the data. Ours: the paper has
# no segmentors. It starts as the basic model, mmseg's ResNet-50 with three convolutions for a stem,
# which the gain leaves exactly as it is.
_base_ = ['mmseg::_base_/default_runtime.py', '../../base_configs/reliable_training.py']
custom_imports = dict(imports=['revcol_backbone.ic.segmentation'], allow_failed_imports=False)
ic_resnet50 = dict(
    type='ICResNet',
    deep_stem=True,
    collision_gain=True,
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c'),
)

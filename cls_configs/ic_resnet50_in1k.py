# IC-ResNet-50 by mmpretrain's recipe for ResNet-50. Its own paper's recipe is not known.
_base_ = [
    'mmpretrain::resnet/resnet50_8xb32_in1k.py',
    '../base_configs/reliable_training.py',
]
custom_imports = dict(
    imports=['revcol_backbone.ic.classification', 'revcol_backbone.pretraining'],
    allow_failed_imports=False,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ImageDatasetCheckHook'),
    dict(type='ProgressBarHook'),
]

default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))

model = dict(backbone=dict(type='ICResNet'))

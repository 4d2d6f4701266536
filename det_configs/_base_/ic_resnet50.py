# IC-ResNet-50 in detectors: what does not depend on the detector. Ours: the paper has no detectors.
# It starts as the basic model, ResNet-50 of torchvision, which the gain leaves exactly as it is.
_base_ = [
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    './multi_scale_test.py',
    '../../base_configs/reliable_training.py',
]
custom_imports = dict(
    imports=['revcol_backbone.ic.detection', 'revcol_backbone.engine.instance_tta'],
    allow_failed_imports=False,
)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))
ic_resnet50 = dict(type='ICResNet', collision_gain=True)

# RedNet-50 in detectors: everything that does not depend on the detector.
_base_ = [
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    './multi_scale_test.py',
    '../../base_configs/reliable_training.py',
]
custom_imports = dict(
    imports=['revcol_backbone.involution.detection', 'revcol_backbone.engine.instance_tta'],
    allow_failed_imports=False,
)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))
# The ImageNet model that the table of the reference release (d-li14/involution) links to.
checkpoint = 'checkpoints/rednet50.pth'
rednet50 = dict(
    type='RedNet',
    depth=50,
    stem_kernel_size=3,
    frozen_stages=1,
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=True,
    init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
)
# The published recipes warm up over 2000 iterations wherever the neck or the head is an
# involution, and in RetinaNet.
long_warmup = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]

# RedNet-50 on Cityscapes in crops of 512x1024, 80k iterations: what the segmentors share.
_base_ = [
    'mmseg::_base_/datasets/cityscapes.py',
    'mmseg::_base_/schedules/schedule_80k.py',
    'mmseg::_base_/default_runtime.py',
    '../../base_configs/reliable_training.py',
]
custom_imports = dict(
    imports=['revcol_backbone.involution.segmentation'], allow_failed_imports=False
)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))
# The ImageNet model that the table of the reference release (d-li14/involution) links to.
checkpoint = 'checkpoints/rednet50.pth'
rednet50 = dict(
    type='RedNet',
    depth=50,
    stem_kernel_size=3,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    # In the release these are not synchronized.
    involution_norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
    init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
)
# mmseg's Cityscapes: 4 GPUs with 2 images each.
auto_scale_lr = dict(enable=False, base_batch_size=8)

# Semantic FPN with IC-ResNet-50 on Cityscapes in crops of 512x1024, 80k iterations. Ours.
_base_ = [
    'mmseg::_base_/models/fpn_r50.py',
    'mmseg::_base_/datasets/cityscapes.py',
    'mmseg::_base_/schedules/schedule_80k.py',
    './_base_/ic_resnet50.py',
]
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=_base_.ic_resnet50,
)
# The batch of mmseg's configs.
auto_scale_lr = dict(enable=False, base_batch_size=8)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))

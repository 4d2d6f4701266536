# UPerNet with IC-ResNet-50 on ADE20K, 512x512, 160k iterations. Ours: nothing is published.
_base_ = [
    'mmseg::_base_/models/upernet_r50.py',
    './_base_/ade20k_512x512.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    './_base_/ic_resnet50.py',
]
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=_base_.ic_resnet50,
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
# The batch of mmseg's configs.
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))

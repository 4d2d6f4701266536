# UPerNet with RedNet-50.
_base_ = ['mmseg::_base_/models/upernet_r50.py', './rednet50.py']
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(_delete_=True, **_base_.rednet50),
)

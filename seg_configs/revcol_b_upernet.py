# The stride of 426 beside a crop of 512 is what was released for this model.
_base_ = ['./_base_/revcol_upernet.py', './_base_/ade20k_512x512.py']

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        arch='base',
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_base_1k.pth'),
    ),
    decode_head=dict(in_channels=[72, 144, 288, 576]),
    auxiliary_head=dict(in_channels=288),
    test_cfg=dict(crop_size=_base_.crop_size, stride=(426, 426)),
)

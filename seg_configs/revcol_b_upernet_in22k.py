_base_ = ['./_base_/revcol_upernet.py', './_base_/ade20k_640x640.py']

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        arch='base',
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_base_22k.pth'),
    ),
    decode_head=dict(in_channels=[72, 144, 288, 576]),
    auxiliary_head=dict(in_channels=288),
    test_cfg=dict(crop_size=_base_.crop_size, stride=(426, 426)),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))

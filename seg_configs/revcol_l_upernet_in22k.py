_base_ = ['./_base_/revcol_upernet.py', './_base_/ade20k_640x640.py']

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        arch='large',
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_large_22k.pth'),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
    test_cfg=dict(crop_size=_base_.crop_size, stride=(426, 426)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=3000),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=3000, end=160000),
]
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))

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
param_scheduler = [dict(_base_.warmup, end=3000 + 1), _base_.poly]
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))

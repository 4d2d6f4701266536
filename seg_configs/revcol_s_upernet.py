_base_ = ['./_base_/revcol_upernet.py', './_base_/ade20k_512x512.py']

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_small_1k.pth'),
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
    test_cfg=dict(crop_size=_base_.crop_size, stride=(341, 341)),
)

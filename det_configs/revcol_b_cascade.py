_base_ = ['./_base_/revcol_cascade.py', './_base_/coco_instance.py']

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_base_1k.pth'),
    ),
    neck=dict(in_channels=[72, 144, 288, 576]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))

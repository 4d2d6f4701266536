_base_ = ['./_base_/revcol_cascade.py', './_base_/coco_instance.py']

model = dict(
    backbone=dict(
        arch='tiny',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_tiny_1k.pth'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

# A small stand-in of revcol_h_htc.py that one GPU trains: drop path and weights of RevCol-T's
# published Cascade Mask R-CNN.
_base_ = './_base_/revcol_htc.py'

model = dict(
    backbone=dict(
        arch='tiny',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_tiny_1k.pth'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

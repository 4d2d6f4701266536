# A small stand-in of revcol_h_mask2former.py that one GPU trains, with RevCol-T's weights.
_base_ = './_base_/revcol_mask2former.py'

model = dict(
    backbone=dict(
        arch='tiny',
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_tiny_1k.pth'),
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
)

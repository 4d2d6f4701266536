# This recipe is ours, as that of RevCol-ViT-S.
_base_ = './revcol_vit_s_cascade.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 384]),
)

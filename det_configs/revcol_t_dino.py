# A small stand-in of revcol_h_dino.py that one GPU trains: four feature scales and 12 epochs, as in
# mmdet's DINO with ResNet-50; drop path and weights of RevCol-T's published Cascade Mask R-CNN.
_base_ = './_base_/revcol_dino.py'

model = dict(
    num_feature_levels=4,
    backbone=dict(
        arch='tiny',
        drop_path_rate=0.3,
        out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint=_base_.checkpoints + 'revcol_tiny_1k.pth'),
    ),
    neck=dict(in_channels=[128, 256, 512], num_outs=4),
    encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=4))),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_levels=4))),
)
train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[11], gamma=0.1)
]

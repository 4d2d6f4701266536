# This recipe is ours: RevCol-ViT was published for ImageNet alone, and without weights. It follows
# RevCol's other segmentors. Start from a backbone that you pre-trained: `--cfg-options
# model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE`.
_base_ = ['./_base_/revcol_upernet.py', './_base_/ade20k_512x512.py']

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(type='RevColViT', arch='small', drop_path_rate=0.1),
    decode_head=dict(in_channels=[56, 112, 224, 224]),
    auxiliary_head=dict(in_channels=224),
    test_cfg=dict(crop_size=_base_.crop_size, stride=(341, 341)),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5), paramwise_cfg=dict(decay_rate=0.85))

# This recipe is ours: RevCol-ViT was published for ImageNet alone, and without weights. It follows
# RevCol's other detectors at half their rate. Start from a backbone that you pre-trained:
# `--cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE`.
_base_ = ['./_base_/revcol_cascade.py', './_base_/coco_instance.py']

model = dict(
    backbone=dict(type='RevColViT', arch='small', drop_path_rate=0.1),
    neck=dict(in_channels=[56, 112, 224, 224]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))

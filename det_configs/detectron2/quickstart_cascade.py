"""Cascade Mask R-CNN on a small RevCol for the quickstart's digits: minutes on two CPU cores."""

import os

from detectron2.config import LazyCall as L
from detectron2.data.datasets import register_coco_instances
from detectron2.layers import ShapeSpec
from fvcore.common.param_scheduler import CosineParamScheduler

from .revcol_cascade import dataloader, lr_multiplier, model, optimizer, train

data = os.environ.get('DIGITS', 'data/digits')
for split in ('train', 'val'):
    register_coco_instances(
        f'digits_{split}',
        {},
        f'{data}/annotations/instances_{split}.json',
        f'{data}/images/{split}',
    )
width, num_classes = 48, 10

model.backbone.bottom_up.update(
    arch=dict(channels=(24, 48, 96, 192), layers=(1, 1, 1, 1), columns=2),
    drop_path_rate=0.0,
    save_memory=True,
)
model.backbone.update(out_channels=width, top_block=None)
# Digits are narrow and about 25 to 80 pixels tall: anchors of one shape, half an octave apart.
levels = ['p2', 'p3', 'p4', 'p5']
model.proposal_generator.update(
    in_features=levels, batch_size_per_image=64, pre_nms_topk=(200, 200), post_nms_topk=(64, 50)
)
model.proposal_generator.head.update(in_channels=width, num_anchors=2)
model.proposal_generator.anchor_generator.update(
    sizes=[[5.7 * stride, 8.0 * stride] for stride in (4, 8, 16, 32)],
    aspect_ratios=[1.5],
    strides=[4, 8, 16, 32],
)
model.roi_heads.update(num_classes=num_classes, batch_size_per_image=48)
model.roi_heads.box_pooler.sampling_ratio = model.roi_heads.mask_pooler.sampling_ratio = 1
for head in model.roi_heads.box_heads:
    head.update(
        input_shape=ShapeSpec(channels=width, height=7, width=7),
        conv_dims=[],
        fc_dims=[256, 256],
        conv_norm='',
    )
for predictor in model.roi_heads.box_predictors:
    predictor.update(
        input_shape=ShapeSpec(channels=256), box_reg_loss_type='smooth_l1', loss_weight=1.0
    )
model.roi_heads.mask_head.update(
    input_shape=ShapeSpec(channels=width, height=14, width=14), conv_dims=[32, 32, 32]
)

del head, predictor  # every name left here becomes part of the config

dataloader.train.update(total_batch_size=4, num_workers=0)
dataloader.train.dataset.names = 'digits_train'
dataloader.train.mapper.update(augmentations=[], instance_mask_format='bitmask')
dataloader.test.update(num_workers=0)
dataloader.test.dataset.names = 'digits_val'
dataloader.test.mapper.augmentations = []
train.update(max_iter=600, eval_period=600, device='cpu', output_dir='work_dirs/detectron2')
train.amp.enabled = False
train.checkpointer.period = 200
optimizer.lr = 2e-3
optimizer.betas = (0.9, 0.99)
optimizer.params.lr_factor_func.decay_rate = 1.0
# Blocks start as the identity (layer scale 1e-6); from scratch they should wake up soon.
optimizer.params.overrides.gamma.lr = 50 * optimizer.lr
lr_multiplier.update(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0), warmup_length=100 / 600
)

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']

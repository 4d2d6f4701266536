"""Cascade Mask R-CNN on a small RevCol for the quickstart's digits: minutes on two CPU cores."""

from detectron2.layers import ShapeSpec

from ...base_configs.detectron2_digits import bottom_up, lr_multiplier, optimizer, width
from .revcol_cascade import dataloader, model, train

model.backbone.bottom_up.update(bottom_up)
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
model.roi_heads.update(num_classes=10, batch_size_per_image=48)
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

del bottom_up, head, predictor  # every name left here becomes part of the config

dataloader.train.update(total_batch_size=4, num_workers=0)
dataloader.train.dataset.names = 'digits_train'
dataloader.train.mapper.update(augmentations=[], instance_mask_format='bitmask')
dataloader.test.update(num_workers=0)
dataloader.test.dataset.names = 'digits_val'
dataloader.test.mapper.augmentations = []
train.update(max_iter=600, eval_period=600, device='cpu', output_dir='work_dirs/detectron2/cascade')
train.amp.enabled = False
train.checkpointer.period = 200

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']

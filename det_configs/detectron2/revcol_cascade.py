"""Cascade Mask R-CNN with RevCol in Detectron2: everything the variants share.

The published recipe as far as Detectron2's heads allow: their cascade regresses boxes for all
classes together and has one mask head, where the published detectors regress per class and have
three.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from revcol_backbone.integrations.detectron2 import RevColBackbone

from ...base_configs.detectron2 import image_format, optimizer, pixel_mean, pixel_std

model = get_config('common/models/cascade_rcnn.py').model
model.backbone.bottom_up = L(RevColBackbone)(
    arch='tiny', drop_path_rate=0.3, pretrained=None, out_features=['res2', 'res3', 'res4', 'res5']
)
model.update(input_format=image_format, pixel_mean=pixel_mean, pixel_std=pixel_std)
# MMDetection's proposals and their loss; Detectron2 trains on 1000 of them, uses the anchors that
# cross the border too and has the absolute error as the loss.
model.proposal_generator.update(
    post_nms_topk=(2000, 1000), anchor_boundary_thresh=0, smooth_l1_beta=1 / 9
)
for head in model.roi_heads.box_heads:
    head.update(conv_dims=[256] * 4, fc_dims=[1024], conv_norm='SyncBN')
# The stages' losses weigh 1, 1/2 and 1/4. Detectron2 passes a third of their gradients on to the
# features: three times the weights undo that. The heads' own gradients are three times as large,
# which AdamW levels out.
for predictor, weight, (center, size) in zip(
    model.roi_heads.box_predictors,
    (3.0, 1.5, 0.75),
    ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067)),
    strict=True,
):
    predictor.box2box_transform.weights = (1 / center, 1 / center, 1 / size, 1 / size)
    predictor.update(
        box_reg_loss_type='giou',
        loss_weight={'loss_cls': weight, 'loss_box_reg': 10 * weight},
    )

del head, predictor  # every name left here becomes part of the config

dataloader = get_config('common/data/coco.py').dataloader
dataloader.train.mapper.update(
    image_format=image_format,
    # A flip, then either a resize to one of eleven short sides, or a resize, a crop and that one.
    augmentations=[
        L(T.RandomFlip)(horizontal=True),
        L(T.RandomApply)(
            tfm_or_aug=L(T.AugmentationList)(
                augs=[
                    L(T.ResizeShortestEdge)(
                        short_edge_length=(400, 500, 600), sample_style='choice', max_size=1333
                    ),
                    L(T.RandomCrop)(crop_type='absolute_range', crop_size=(384, 600)),
                ]
            ),
            prob=0.5,
        ),
        L(T.ResizeShortestEdge)(
            short_edge_length=tuple(range(480, 801, 32)), sample_style='choice', max_size=1333
        ),
    ],
)

# 36 epochs of COCO's 117,266 images with objects, 16 at a time.
epoch = 7330
train = get_config('common/train.py').train
train.max_iter = 36 * epoch
train.eval_period = train.checkpointer.period = epoch
train.amp.enabled = True
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01], milestones=[27 * epoch, 33 * epoch], num_updates=36 * epoch
    ),
    warmup_length=500 / (36 * epoch),
    warmup_factor=0.001,
    warmup_method='linear',
)

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']

"""Semantic FPN with RevCol in Detectron2, ADE20K: everything the variants share.

This recipe is ours: none was published for RevCol with semantic FPN. It follows that of UPerNet
with RevCol-T (schedule, optimizer, crops), with Detectron2's own head, and tests whole images in
place of a sliding window.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.evaluation import SemSegEvaluator
from detectron2.model_zoo import get_config
from detectron2.modeling import SemanticSegmentor
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import LinearParamScheduler

from revcol_backbone.integrations.detectron2 import RevColBackbone, read_label_map

from ...base_configs.detectron2 import image_format, optimizer, pixel_mean, pixel_std

panoptic = get_config('common/models/panoptic_fpn.py').model
model = L(SemanticSegmentor)(
    backbone=panoptic.backbone,
    sem_seg_head=panoptic.sem_seg_head,
    pixel_mean=pixel_mean,
    pixel_std=pixel_std,
)
model.backbone.top_block = None
model.backbone.bottom_up = L(RevColBackbone)(
    arch='tiny', drop_path_rate=0.3, pretrained=None, out_features=['res2', 'res3', 'res4', 'res5']
)
model.sem_seg_head.update(num_classes=150, loss_weight=1.0)

del panoptic  # every name left here becomes part of the config

dataloader = get_config('common/data/coco.py').dataloader
dataloader.train.dataset.names = 'ade20k_sem_seg_train'
dataloader.train.mapper.update(
    image_format=image_format,
    use_instance_mask=False,
    augmentations=[
        L(T.ResizeShortestEdge)(short_edge_length=(256, 1024), sample_style='range', max_size=4096),
        L(T.RandomCrop_CategoryAreaConstraint)(
            crop_type='absolute',
            crop_size=(512, 512),
            single_category_max_area=0.75,
            ignored_category=255,
        ),
        L(T.RandomFlip)(horizontal=True),
        L(T.RandomApply)(
            tfm_or_aug=L(T.RandomBrightness)(intensity_min=0.875, intensity_max=1.125)
        ),
        L(T.RandomApply)(tfm_or_aug=L(T.RandomContrast)(intensity_min=0.5, intensity_max=1.5)),
        L(T.RandomApply)(tfm_or_aug=L(T.RandomSaturation)(intensity_min=0.5, intensity_max=1.5)),
    ],
)
dataloader.test.dataset.names = 'ade20k_sem_seg_val'
dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=512, max_size=2048)
]
dataloader.evaluator = L(SemSegEvaluator)(
    dataset_name='${..test.dataset.names}', sem_seg_loading_fn=read_label_map
)

train = get_config('common/train.py').train
train.max_iter = 160_000
train.eval_period = train.checkpointer.period = 16_000
train.amp.enabled = True
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(LinearParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_length=1500 / 160_000,
    warmup_factor=1e-6,
    warmup_method='linear',
)
optimizer.update(lr=6e-5, weight_decay=0.01)
optimizer.params.lr_factor_func.decay_rate = 1.0

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']

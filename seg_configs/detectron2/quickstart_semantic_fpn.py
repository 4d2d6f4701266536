"""Semantic FPN on a small RevCol for the quickstart's digits: a minute on two CPU cores."""

from ...base_configs.detectron2_digits import bottom_up, lr_multiplier, optimizer, width
from .revcol_semantic_fpn import dataloader, model, train

model.backbone.bottom_up.update(bottom_up)
model.backbone.out_channels = width
model.sem_seg_head.update(num_classes=11, conv_dims=64)

del bottom_up  # every name left here becomes part of the config

dataloader.train.update(total_batch_size=8, num_workers=0)
dataloader.train.dataset.names = 'digits_maps_train'
dataloader.train.mapper.augmentations = []
dataloader.test.update(num_workers=0)
dataloader.test.dataset.names = 'digits_maps_val'
dataloader.test.mapper.augmentations = []
train.update(max_iter=300, eval_period=300, device='cpu')
train.output_dir = 'work_dirs/detectron2/semantic_fpn'
train.amp.enabled = False
train.checkpointer.period = 100

__all__ = ['dataloader', 'lr_multiplier', 'model', 'optimizer', 'train']

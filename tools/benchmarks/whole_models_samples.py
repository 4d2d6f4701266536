"""Annotations for images of noise, with which a detector or a segmentor can be trained."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor

from revcol_backbone.analysis.network_input import describe_batch

OBJECTS = 8


def describe(model: BaseModel, image: Tensor) -> list[BaseDataElement]:
    """Annotations of each image: a label map, or objects of many sizes with their masks."""
    annotate = _label_map if hasattr(model, 'decode_head') else _objects
    return [annotate(meta, *image.shape[-2:]) for meta in describe_batch(image)]


def _label_map(meta: dict, height: int, width: int) -> BaseDataElement:
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=meta)
    labels = torch.arange(height * width).view(1, height, width) // width % 7
    sample.gt_sem_seg = PixelData(data=labels)
    return sample


def _objects(meta: dict, height: int, width: int) -> BaseDataElement:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    scales = torch.linspace(0.05, 0.6, OBJECTS)
    corners = torch.stack([scales * width / 2, scales * height / 2], 1)
    boxes = torch.cat([corners, corners + torch.stack([scales * width, scales * height], 1)], 1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    sample = DetDataSample(metainfo=meta)
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.arange(OBJECTS), masks=BitmapMasks(masks.numpy(), height, width)
    )
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    return sample

"""A detector and a segmentor that need no training: they find red and blue pixels.

Each has one weight, which a checkpoint has to bring. Importing this module registers them.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from mmdet.models import BaseDetector
from mmdet.registry import MODELS as DETECTORS
from mmengine.structures import InstanceData
from mmseg.models import BaseSegmentor
from mmseg.registry import MODELS as SEGMENTORS
from torch import nn

from tests.tiny_data import COLORS


def scores_of(images: torch.Tensor) -> torch.Tensor:
    """How near each pixel of (B, 3, H, W) is to each color: (B, C, H, W), at most 1."""
    colors = images.new_tensor(COLORS)[None, :, :, None, None]
    return 1 - (images[:, None] - colors).abs().amax(2) / 255


@DETECTORS.register_module()
class ColorDetector(BaseDetector):
    """Finds connected pixels of one color; what touches a side of the image scores less."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.threshold = nn.Parameter(torch.zeros(1))

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        found = scores_of(batch_inputs) > self.threshold
        for is_color, sample in zip(found.cpu().numpy(), batch_data_samples, strict=True):
            height, width = sample.img_shape
            masks, labels = [], []
            for label, pixels in enumerate(is_color[:, :height, :width]):
                number, regions = cv2.connectedComponents(pixels.astype(np.uint8))
                masks += [regions == region for region in range(1, number)]
                labels += [label] * (number - 1)
            masks = torch.from_numpy(np.array(masks).reshape(-1, height, width))
            boxes = torch.tensor([box_of(mask) for mask in masks]).reshape(-1, 4).float()
            is_cut = (boxes == torch.tensor([0, 0, width, height])).any(1)
            sample.pred_instances = InstanceData(
                bboxes=boxes,
                scores=torch.where(is_cut, 0.6, 0.9),
                labels=torch.tensor(labels, dtype=torch.long),
                masks=masks,
            )
        return batch_data_samples

    def loss(self, batch_inputs, batch_data_samples):
        raise NotImplementedError

    def _forward(self, batch_inputs, batch_data_samples=None):
        raise NotImplementedError

    def extract_feat(self, batch_inputs):
        raise NotImplementedError


@SEGMENTORS.register_module()
class ColorSegmentor(BaseSegmentor):
    """Gives every pixel the class of the color that it is nearest to; with one output channel,
    tells blue from all others."""

    align_corners = False

    def __init__(self, out_channels=2, num_classes=2, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.out_channels = out_channels
        self.decode_head = nn.Module()
        self.decode_head.out_channels = out_channels
        self.decode_head.threshold = 0.3
        self.decode_head.scale = nn.Parameter(torch.zeros(1))

    def predict(self, inputs, data_samples=None):
        scores = scores_of(inputs)
        if self.out_channels == 1:
            scores = scores[:, 1:] - 0.9
        return self.postprocess_result(scores * self.decode_head.scale, data_samples)

    def loss(self, inputs, data_samples):
        raise NotImplementedError

    def _forward(self, inputs, data_samples=None):
        raise NotImplementedError

    def extract_feat(self, inputs):
        raise NotImplementedError

    def encode_decode(self, inputs, batch_data_samples):
        raise NotImplementedError


def box_of(mask: torch.Tensor) -> list[int]:
    """Left, top, right and bottom of the pixels of a mask."""
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]

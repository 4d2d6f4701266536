"""Parameters and multiply-adds of classifiers, detectors and segmentors, without their memory.

Multiply-adds are what the published tables call FLOPs: half of what
:class:`torch.utils.flop_counter.FlopCounterMode` counts. It sees convolutions, matrix products and
the involution, and leaves out normalization, activation, pooling, interpolation and RoIAlign. On
the meta device nothing is allocated or computed, so that RevCol-H fits any machine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# Regions through each box stage and each mask stage of a detector, in the published figures.
BOX_PROPOSALS, MASK_PROPOSALS = 1000, 100
CLASSES = 1000


class Classifier(nn.Module):
    """A backbone with the head of ImageNet classifiers on its last output.

    Args:
        backbone: A module that returns a tuple of (B, C, H, W); the last one is classified.
        channels: C of the last output.
        with_norm: Normalize the pooled features by a LayerNorm, as RevCol does and RedNet does not.
    """

    def __init__(self, backbone: nn.Module, channels: int, with_norm: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.norm = nn.LayerNorm(channels) if with_norm else nn.Identity()
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to (B, 1000)."""
        return self.head(self.norm(self.backbone(x)[-1].mean((2, 3))))


def build_on_meta(config: Config) -> nn.Module:
    """Build a config's model on the meta device, in evaluation mode."""
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device('meta'):
        return MODELS.build(config.model).eval()


def count_parameters(model: nn.Module) -> int:
    """Count a model's parameters; buffers are none."""
    return sum(parameter.numel() for parameter in model.parameters())


def model_multiply_adds(model: nn.Module, height: int, width: int) -> int:
    """Count the multiply-adds of one image of 3 channels through the model.

    A classifier or a bare backbone, and a segmentor with its auxiliary heads, run once. Of a
    two-stage detector, the backbone, neck and RPN run once, 1,000 proposals go through each box
    stage and 100 through each mask stage; a one-stage detector runs once.

    Args:
        model: The model, on the meta device and in evaluation mode.
        height: Rows of the image.
        width: Columns of the image.

    Raises:
        ValueError: The model is of a kind that this convention does not cover.
    """
    image = torch.empty(1, 3, height, width, device='meta')
    if hasattr(model, 'roi_head'):
        return _two_stage_multiply_adds(model, image)
    if hasattr(model, 'decode_head'):
        return _segmentor_multiply_adds(model, image)
    if hasattr(model, 'bbox_head'):
        return _one_stage_multiply_adds(model, image)
    return _run_counted(model, image)[1]


def _two_stage_multiply_adds(model: nn.Module, image: Tensor) -> int:
    features, total = _extract(model, image)
    total += _run_counted(model.rpn_head, features)[1]
    roi_head = model.roi_head
    parts = [(roi_head.bbox_head, roi_head.bbox_roi_extractor, BOX_PROPOSALS)]
    if roi_head.with_mask:
        parts.append((roi_head.mask_head, roi_head.mask_roi_extractor, MASK_PROPOSALS))
    for heads, extractors, proposals in parts:
        for head, extractor in zip(_stages(heads), _stages(extractors), strict=True):
            size = extractor.roi_layers[0].output_size
            regions = image.new_empty(proposals, extractor.out_channels, *size)
            total += _run_counted(head, regions)[1]
    return total


def _one_stage_multiply_adds(model: nn.Module, image: Tensor) -> int:
    if hasattr(model, 'encoder'):
        raise ValueError(
            f'{type(model).__name__} has a transformer, which the published counts do not cover.'
        )
    features, total = _extract(model, image)
    return total + _run_counted(model.bbox_head, features)[1]


def _segmentor_multiply_adds(model: nn.Module, image: Tensor) -> int:
    features, total = _extract(model, image)
    heads = [model.decode_head]
    if model.with_auxiliary_head:
        heads += _stages(model.auxiliary_head)
    return total + sum(_run_counted(head, features)[1] for head in heads)


def _extract(model: nn.Module, image: Tensor) -> tuple[tuple[Tensor, ...], int]:
    features, total = _run_counted(model.backbone, image)
    if model.with_neck:
        features, neck = _run_counted(model.neck, features)
        total += neck
    return features, total


def _stages(module: nn.Module) -> list[nn.Module]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _run_counted(run: Callable, argument: object) -> tuple[object, int]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = run(argument)
    return result, counter.get_total_flops() // 2

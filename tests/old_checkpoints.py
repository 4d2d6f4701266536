"""Fine-tuned files as mmdet 2.x and mmseg 0.x wrote them: names written out, not read off ours."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

Shapes = dict[str, tuple[int, ...]]


def old_cascade_shapes(channels: Sequence[int], width: int, fc: int, classes: int) -> Shapes:
    """Neck and heads of mmdet 2.x's Cascade Mask R-CNN in the published recipe.

    Args:
        channels: The four widths of the backbone.
        width: Channels of the neck and of every convolution of the heads.
        fc: Width of the box heads' shared layer.
        classes: Number of classes.
    """
    layers = {}
    for level, channel in enumerate(channels):
        layers[f'neck.lateral_convs.{level}.conv'] = (width, channel, 1, 1)
        layers[f'neck.fpn_convs.{level}.conv'] = (width, width, 3, 3)
    layers['rpn_head.rpn_conv'] = (width, width, 3, 3)
    layers['rpn_head.rpn_cls'] = (3, width, 1, 1)
    layers['rpn_head.rpn_reg'] = (12, width, 1, 1)
    shapes: Shapes = {}
    for stage in range(3):
        box, mask = f'roi_head.bbox_head.{stage}', f'roi_head.mask_head.{stage}'
        for index in range(4):
            shapes |= _conv_and_norm(f'{box}.shared_convs.{index}', width, width, 3)
            layers[f'{mask}.convs.{index}.conv'] = (width, width, 3, 3)
        layers[f'{box}.shared_fcs.0'] = (fc, width * 7 * 7)
        layers[f'{box}.fc_cls'] = (classes + 1, fc)
        layers[f'{box}.fc_reg'] = (4 * classes, fc)
        layers[f'{mask}.upsample'] = (width, width, 2, 2)
        layers[f'{mask}.conv_logits'] = (classes, width, 1, 1)
    return shapes | _with_bias(layers)


def old_upernet_shapes(channels: Sequence[int], width: int, auxiliary: int, classes: int) -> Shapes:
    """Heads of mmseg 0.x's UPerNet with its auxiliary FCN head on level 2.

    Args:
        channels: The four widths of the backbone.
        width: Channels of the decode head.
        auxiliary: Channels of the auxiliary head.
        classes: Number of classes.
    """
    shapes: Shapes = {}
    for pool in range(4):
        shapes |= _conv_and_norm(f'decode_head.psp_modules.{pool}.1', width, channels[3], 1)
    for level, channel in enumerate(channels[:3]):
        shapes |= _conv_and_norm(f'decode_head.lateral_convs.{level}', width, channel, 1)
        shapes |= _conv_and_norm(f'decode_head.fpn_convs.{level}', width, width, 3)
    shapes |= _conv_and_norm('decode_head.bottleneck', width, channels[3] + 4 * width, 3)
    shapes |= _conv_and_norm('decode_head.fpn_bottleneck', width, 4 * width, 3)
    shapes |= _conv_and_norm('auxiliary_head.convs.0', auxiliary, channels[2], 3)
    return shapes | _with_bias(
        {
            'decode_head.conv_seg': (classes, width, 1, 1),
            'auxiliary_head.conv_seg': (classes, auxiliary, 1, 1),
        }
    )


def fill(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Weights of these shapes that differ from any initial ones."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(3)
        if key.endswith('num_batches_tracked')
        else 0.05 * torch.rand(shape, generator=generator)
        for key, shape in shapes.items()
    }


def save_with_objects(weights: dict[str, torch.Tensor], path: Path) -> Path:
    """Save a file with the entries of mmcv 1.x, an object of one of its classes among them."""
    with _mmcv_1x() as config_class:
        config = config_class(model=dict(type='CascadeRCNN'))
        meta = dict(mmcv_version='1.6.2', CLASSES=('a', 'b'), epoch=36, config=config)
        torch.save(dict(meta=meta, state_dict=weights, optimizer={}), path)
    return path


@contextmanager
def _mmcv_1x() -> Iterator[type]:
    """Give mmcv the configuration class of its version 1, for the pickler."""
    import mmcv.utils  # noqa: F401, the parent of the module has to be there

    module = types.ModuleType('mmcv.utils.config')
    module.ConfigDict = type('ConfigDict', (dict,), {'__module__': module.__name__})
    sys.modules[module.__name__] = module
    try:
        yield module.ConfigDict
    finally:
        del sys.modules[module.__name__]


def _conv_and_norm(name: str, outputs: int, inputs: int, kernel: int) -> Shapes:
    norm = {
        f'{name}.bn.{key}': (outputs,) for key in ('weight', 'bias', 'running_mean', 'running_var')
    }
    convolution = {f'{name}.conv.weight': (outputs, inputs, kernel, kernel)}
    return convolution | norm | {f'{name}.bn.num_batches_tracked': ()}


def _with_bias(layers: Shapes) -> Shapes:
    shapes = {}
    for name, shape in layers.items():
        # A transposed convolution has its inputs first; inputs and outputs are equal here.
        shapes |= {f'{name}.weight': shape, f'{name}.bias': (shape[0],)}
    return shapes

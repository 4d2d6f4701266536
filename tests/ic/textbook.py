"""The textbook form of the units: a second convolution, with ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.ic import ICConv2d


def textbook_convolution(layer: ICConv2d, x: Tensor) -> Tensor:
    """``u + g relu(u - w' s + b1) + b2`` as it is written."""
    mode = 'constant' if layer.padding_mode == 'zeros' else layer.padding_mode
    x = F.pad(x, margins(layer), mode=mode)
    settings = dict(stride=layer.stride, dilation=layer.dilation, groups=layer.groups)
    u = F.conv2d(x, layer.weight, **settings)
    s = F.conv2d(x, torch.ones_like(layer.weight), **settings)
    term = u - of_channels(layer.collision_weight) * s + of_channels(layer.collision_bias)
    out = term.relu()
    if layer.collision_gain is not None:
        out = of_channels(layer.collision_gain) * out
    return u + out + (0 if layer.bias is None else of_channels(layer.bias))


def margins(layer: nn.Conv2d) -> tuple[int, ...]:
    """Left, right, top and bottom padding; of ``'same'``, what does not halve goes last."""
    if layer.padding == 'same':
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        padding = (0, 0) if layer.padding == 'valid' else layer.padding
        sides = [(margin, margin) for margin in padding]
    return (*sides[1], *sides[0])


def of_channels(parameter: Tensor) -> Tensor:
    return parameter.view(1, -1, 1, 1)


def randomize(module: nn.Module, spread: float = 0.3) -> nn.Module:
    """Move every collision parameter from its start."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if 'collision' in name:
                parameter.add_(spread * torch.randn_like(parameter))
    return module

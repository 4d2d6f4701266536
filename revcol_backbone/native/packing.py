"""Weights as the C++ functions read them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from revcol_backbone.onednn import made_of

# Columns of a weight that lie together, as in tiles.h.
PANEL = 64


def packed(weight: Tensor, pack: Callable[[Tensor], Tensor]) -> Tensor:
    """A weight packed by one of the functions below; again only after it has changed."""
    result = made_of(pack, pack, weight)
    # Where it cannot be kept it is made for this once.
    return pack(weight.detach()) if result is None else result


def pack_taps(weight: Tensor) -> Tensor:
    """Of a depthwise convolution: (C, 1, K, K) to (K, K, C)."""
    return weight[:, 0].permute(1, 2, 0).contiguous()


def pack_panels(weight: Tensor) -> Tensor:
    """Of a linear layer (out, in), or a convolution (out, in, K, K) as one of its K * K pixels.

    The panels are matrices of (inputs, 64 outputs), one after the other; the last may be narrower.
    """
    if weight.ndim == 4:
        weight = weight.permute(0, 2, 3, 1).flatten(1)
    return torch.cat([panel.t().flatten() for panel in weight.split(PANEL)])

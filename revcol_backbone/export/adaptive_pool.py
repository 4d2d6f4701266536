"""Adaptive average pooling of images whose size is not known while exporting."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SymbolicAdaptiveAvgPool2d(nn.Module):
    """Equals ``nn.AdaptiveAvgPool2d``, which has no counterpart in ONNX for an unknown input size.

    Rows and columns are averaged by one matrix product each; the matrices are computed from the
    input's size, so that they are part of the graph.

    Args:
        output_size: Height and width of the output.
    """

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool features of shape (B, C, H, W) to (B, C, *output_size)."""
        rows = _averages(x.shape[-2], self.output_size[0], x)
        columns = _averages(x.shape[-1], self.output_size[1], x)
        return rows @ x @ columns.T


def replace_adaptive_pools(module: nn.Module) -> None:
    """Replace every adaptive average pool in a module, in place."""
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.AdaptiveAvgPool2d):
            parent, _, attribute = name.rpartition('.')
            pool = SymbolicAdaptiveAvgPool2d(_pair(child.output_size))
            setattr(module.get_submodule(parent), attribute, pool)


def _averages(size: int, bins: int, like: Tensor) -> Tensor:
    """A matrix (bins, size): row i averages floor(i size / bins) to ceil((i + 1) size / bins)."""
    first = torch.arange(bins, device=like.device)
    start = (first * size).div(bins, rounding_mode='floor')
    stop = ((first + 1) * size + bins - 1).div(bins, rounding_mode='floor')
    position = torch.arange(size, device=like.device)
    inside = (position >= start[:, None]) & (position < stop[:, None])
    return inside.to(like.dtype) / (stop - start)[:, None].to(like.dtype)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)

"""Layers that export for any input size, in place of those that do not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from revcol_backbone.level import UpBranch


class SymbolicAdaptiveAvgPool2d(nn.Module):
    """Equals ``nn.AdaptiveAvgPool2d``, which has no counterpart in ONNX for an unknown input size.

    Rows and columns are averaged by one matrix product each; the matrices are computed from the
    input's size, so that they are part of the graph.

    Args:
        output_size: Height and width of the output; ``None`` for that of the input.
    """

    def __init__(self, output_size: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool features of shape (B, C, H, W) to (B, C, *output_size)."""
        rows = _averages(x.shape[-2], self.output_size[0], x)
        columns = _averages(x.shape[-1], self.output_size[1], x)
        return rows @ x @ columns.T


class GatheredUpBranch(nn.Module):
    """Equals an :class:`~revcol_backbone.level.UpBranch`; rows and columns are picked by index.

    PyTorch picks floor(i * (in / out)); ONNX's ``Resize`` picks floor(i / (out / in)). In float32
    these differ where i * in / out is a whole number: never for ``up``, where out is 2 in or
    2 in + 1, but for ``up2`` with its eightfold size at 114 pixels out of 14, among others.

    Args:
        branch: The branch, whose weights are used.
    """

    def __init__(self, branch: UpBranch) -> None:
        super().__init__()
        self.channel_reschedule = branch.channel_reschedule

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample (B, C, H, W) to (B, C', *size)."""
        x = self.channel_reschedule(x.permute(0, 2, 3, 1))
        x = x.index_select(1, _nearest(x.shape[1], size[0], x.device))
        x = x.index_select(2, _nearest(x.shape[2], size[1], x.device))
        return x.permute(0, 3, 1, 2)


def replace_adaptive_pools(module: nn.Module) -> None:
    """Replace every adaptive average pool in a module, in place."""
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.AdaptiveAvgPool2d):
            parent, _, attribute = name.rpartition('.')
            pool = SymbolicAdaptiveAvgPool2d(_pair(child.output_size))
            setattr(module.get_submodule(parent), attribute, pool)


def replace_long_up_branches(module: nn.Module) -> None:
    """Replace every ``up2`` of a RevCol, in place."""
    for child in list(module.modules()):
        branch = getattr(child, 'up2', None)
        if isinstance(branch, UpBranch):
            child.up2 = GatheredUpBranch(branch)


def _averages(size: int, bins: int | None, like: Tensor) -> Tensor:
    """A matrix (bins, size): row i averages floor(i size / bins) to ceil((i + 1) size / bins)."""
    bins = size if bins is None else bins
    first = torch.arange(bins, device=like.device)
    start = (first * size).div(bins, rounding_mode='floor')
    stop = ((first + 1) * size + bins - 1).div(bins, rounding_mode='floor')
    position = torch.arange(size, device=like.device)
    inside = (position >= start[:, None]) & (position < stop[:, None])
    return inside.to(like.dtype) / (stop - start)[:, None].to(like.dtype)


def _pair(size: int | tuple[int | None, int | None] | None) -> tuple[int | None, int | None]:
    height, width = size if isinstance(size, Sequence) else (size, size)
    return height, width


def _nearest(given: int, wanted: int, device: torch.device) -> Tensor:
    """For each of ``wanted`` places the index among ``given``, in PyTorch's arithmetic."""
    sizes = [torch.scalar_tensor(n, dtype=torch.float32, device=device) for n in (given, wanted)]
    places = torch.arange(wanted, device=device).to(torch.float32)
    return (places * (sizes[0] / sizes[1])).floor().to(torch.int64)

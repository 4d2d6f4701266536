"""What each output of a convolution sees, summed: a convolution with ones, without multiplying."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]


class Windows(NamedTuple):
    """Where the windows of a convolution lie, as (rows, columns)."""

    kernel_size: Pair
    stride: Pair
    dilation: Pair


def sum_channels(x: Tensor, groups: int) -> Tensor:
    """Sum the channels of each group, in float32 or wider: (B, C, H, W) to (B, groups, H, W)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if groups == 1:
        return x.sum(1, keepdim=True, dtype=dtype)
    return x.unflatten(1, (groups, -1)).sum(2, dtype=dtype)


def sum_windows(channel_sums: Tensor, conv: nn.Conv2d) -> Tensor:
    """Sum the windows of a convolution.

    Args:
        channel_sums: The input summed over the channels of each group (B, G, H, W).
        conv: The convolution, for its sizes and its padding.

    Returns:
        (B, G, H', W'), of the output's size.
    """
    padding = conv._reversed_padding_repeated_twice
    if any(padding):
        mode = 'constant' if conv.padding_mode == 'zeros' else conv.padding_mode
        channel_sums = F.pad(channel_sums, padding, mode=mode)
    windows = Windows(conv.kernel_size, conv.stride, conv.dilation)
    if is_traced():
        if windows.dilation != (1, 1):
            return _sum(channel_sums, windows)
        # Without divisor_override, which exporters to ONNX omit.
        means = F.avg_pool2d(channel_sums, windows.kernel_size, windows.stride)
        return means * (windows.kernel_size[0] * windows.kernel_size[1])
    if torch.is_grad_enabled() and channel_sums.requires_grad:
        return BoxFilter.apply(channel_sums, windows)
    return _sum(channel_sums, windows)


def is_traced() -> bool:
    """Whether a compiler or an exporter is recording, which has to see operators alone."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class BoxFilter(torch.autograd.Function):
    """The sums of windows (B, G, H, W) to (B, G, H', W'), with derivatives of every order."""

    @staticmethod
    def forward(ctx, x: Tensor, windows: Windows) -> Tensor:
        ctx.windows, ctx.shape = windows, x.shape
        return _sum(x, windows)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return TransposedBoxFilter.apply(grad, ctx.windows, ctx.shape), None


class TransposedBoxFilter(torch.autograd.Function):
    """The gradient of :class:`BoxFilter`, whose own gradient is the box filter again."""

    @staticmethod
    def forward(ctx, grad: Tensor, windows: Windows, shape: torch.Size) -> Tensor:
        ctx.windows = windows
        for axis in (3, 2):
            spread = grad.new_zeros(*grad.shape[:axis], shape[axis], *grad.shape[axis + 1 :])
            for part in _positions(spread, axis, windows):
                part.add_(grad)
            grad = spread
        return grad

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return BoxFilter.apply(grad, ctx.windows), None, None


def _sum(x: Tensor, windows: Windows) -> Tensor:
    """Sum the rows of each window, then the columns: 2 k additions for k x k."""
    for axis in (2, 3):
        first, *others = _positions(x, axis, windows)
        x = first + others[0] if others else first.clone()
        for part in others[1:]:
            x += part
    return x


def _positions(x: Tensor, axis: int, windows: Windows) -> list[Tensor]:
    """For each position in a window along an axis, what lies there in all windows."""
    size, step, spacing = (pair[axis - 2] for pair in windows)
    reach = x.shape[axis] - spacing * (size - 1)
    before = (slice(None),) * axis
    return [x[(*before, slice(i * spacing, i * spacing + reach, step))] for i in range(size)]

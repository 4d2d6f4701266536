"""What each output of a convolution sees, summed: a convolution with ones, without multiplying."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
    left, right, top, bottom = padding = conv._reversed_padding_repeated_twice
    kernel_size, margins = conv.kernel_size, (top, left)
    # Pooling pads by itself, but alike on both sides and by half of a window at most.
    is_pools_own = (
        conv.padding_mode == 'zeros'
        and (left, top) == (right, bottom)
        and conv.dilation == (1, 1)
        and 2 * top <= kernel_size[0]
        and 2 * left <= kernel_size[1]
    )
    if not is_pools_own:
        mode = 'constant' if conv.padding_mode == 'zeros' else conv.padding_mode
        channel_sums, margins = F.pad(channel_sums, padding, mode=mode), (0, 0)
    if conv.dilation != (1, 1):
        for axis in (2, 3):
            channel_sums = _sum_along(channel_sums, axis, conv)
        return channel_sums
    if is_traced():
        # Without divisor_override, which exporters to ONNX omit.
        means = F.avg_pool2d(channel_sums, kernel_size, conv.stride, margins)
        return means * (kernel_size[0] * kernel_size[1])
    return F.avg_pool2d(channel_sums, kernel_size, conv.stride, margins, divisor_override=1)


def is_traced() -> bool:
    """Whether a compiler or an exporter is recording, which has to see operators alone."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _sum_along(x: Tensor, axis: int, conv: nn.Conv2d) -> Tensor:
    """Sum windows along one axis by adding what lies at each of their positions."""
    size, step, spacing = (
        pair[axis - 2] for pair in (conv.kernel_size, conv.stride, conv.dilation)
    )
    reach = x.shape[axis] - spacing * (size - 1)
    before = (slice(None),) * axis
    parts = [x[(*before, slice(i * spacing, i * spacing + reach, step))] for i in range(size)]
    return sum(parts[1:], parts[0])

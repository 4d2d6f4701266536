"""The involution on CPUs by gathering: every pixel sums the weighted rows of its window.

With the channels of a group side by side, a pixel's window is K * K rows of a table, and the
operator is PyTorch's embedding bag with a weight for each row: one parallel region for many pixels,
where :mod:`.shifted` makes K * K of each. Its transposes are no faster than by shifts, so there are
none here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows of the table that one call gathers, unless one group of one image needs more.
ROWS = 1 << 17
# Pixels of the largest output that is gathered at stride 1; a stride makes shifts dearer.
PIXELS = 512


def is_faster(kernel: Tensor, stride: int) -> bool:
    """Whether to gather rather than to shift, as measured at the sizes of RedNet-50.

    The shifts lose where their steps are short, on small outputs, and later with a stride, for
    which they copy more. ``docs/benchmarks/involution.md`` has the table.

    Args:
        kernel: As in :func:`aggregate`.
        stride: As in :func:`aggregate`.
    """
    return kernel.shape[-2] * kernel.shape[-1] <= PIXELS * stride**2


def aggregate(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Sum every pixel's window, weighted by that pixel's kernel; as :func:`.shifted.aggregate`."""
    merged, positions = kernel.shape[0] * kernel.shape[1], kernel.shape[2]
    size = math.isqrt(positions)
    padded = F.pad(x, (size // 2,) * 4)
    out = x.new_empty(*x.shape[:2], *kernel.shape[-2:])
    if not out.numel():
        return out
    target = out.view(merged, -1, out.shape[-2] * out.shape[-1])
    source = padded.reshape(merged, target.shape[1], -1)
    kernel = kernel.reshape(merged, positions, -1)
    dtype = torch.promote_types(x.dtype, torch.float32)

    index = _window_index(out.shape[-2:], padded.shape[-1], size, stride)
    together = max(min(ROWS // index.numel(), merged), 1)
    planes = torch.arange(together, dtype=torch.int32)[:, None, None] * source.shape[2]
    index = (planes + index).flatten(0, 1)
    for first in range(0, merged, together):
        chunk = slice(first, first + together)
        table = source[chunk].transpose(1, 2).reshape(-1, target.shape[1])
        weights = kernel[chunk].transpose(1, 2).reshape(-1, positions)
        sums = F.embedding_bag(
            index[: len(weights)],
            table.to(dtype).contiguous(),
            per_sample_weights=weights.to(dtype).contiguous(),
            mode='sum',
        )
        target[chunk].copy_(sums.view(-1, target.shape[2], target.shape[1]).transpose(1, 2))
    return out


def _window_index(out_size: Sequence[int], width: int, size: int, stride: int) -> Tensor:
    """Number the padded pixels that each output pixel sees: (H' * W', K * K)."""
    rows, columns = (
        torch.arange(pixels, dtype=torch.int32)[:, None] * stride
        + torch.arange(size, dtype=torch.int32)
        for pixels in out_size
    )
    return (rows[:, None, :, None] * width + columns[None, :, None, :]).view(-1, size * size)

"""Where a deformable convolution samples, as mmcv's kernels define it and torchvision's do not.

A sampling point at -1 or less, or at the input's height or width or more, is 0 and has no gradient.
torchvision's kernels have a gradient at exactly -1, where every padded layer with zero offsets
starts, give NaN at infinity, and crash the process at NaN. And version 2 takes offsets and masks
larger than the output, as mmdet's DyHead passes them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# A place outside every input and away from its border.
FAR_OUTSIDE = -2


class Geometry(NamedTuple):
    """Convolution parameters in the order of torchvision's operators."""

    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    group: int
    deformable_group: int

    def along(self, axis: int) -> tuple[int, int, int]:
        """Stride, padding and dilation along the height (0) or the width (1)."""
        return self[axis], self[2 + axis], self[4 + axis]


def output_size(input: Tensor, weight: Tensor, geometry: Geometry) -> tuple[int, int]:
    """Height and width of the convolution's output."""
    sizes = []
    for axis in range(2):
        stride, padding, dilation = geometry.along(axis)
        covered = dilation * (weight.size(2 + axis) - 1) + 1
        sizes.append((input.size(2 + axis) + 2 * padding - covered) // stride + 1)
    return sizes[0], sizes[1]


def keep_leading(given: Tensor, name: str, channels: int, size: tuple[int, int]) -> Tensor:
    """Pick what mmcv's kernels read: of each image the first values in memory order.

    Args:
        given: (B, ...) offsets or mask.
        name: What it is, with its article, for the message.
        channels: Channels that the convolution needs.
        size: Height and width that it needs.

    Returns:
        (B, channels, *size).

    Raises:
        ValueError: An image has fewer values.
    """
    shape = (given.size(0), channels, *size)
    needed, available = math.prod(shape[1:]), math.prod(given.shape[1:])
    if available < needed:
        raise ValueError(
            f'Deformable convolution got {name} of shape {tuple(given.shape)}; its output of '
            f'{size[0]} x {size[1]} needs {shape}.'
        )
    return given.reshape(given.size(0), available)[:, :needed].reshape(shape)


def pad_gradient(gradient: Tensor, given: Tensor) -> Tensor:
    """Turn the gradient of what :func:`keep_leading` picked into that of all it was given."""
    available, read = math.prod(given.shape[1:]), math.prod(gradient.shape[1:])
    flat = gradient.reshape(given.size(0), read)
    return F.pad(flat, (0, available - read)).view(given.shape)


def move_outside(
    offset: Tensor, input_size: Sequence[int], kernel_size: Sequence[int], geometry: Geometry
) -> Tensor:
    """Move the points at the outer border or beyond it far outside; NaN counts as beyond.

    Args:
        offset: (B, 2 x deformable groups x kernel cells, H, W) as y, x pairs.
        input_size: Height and width of the input.
        kernel_size: Height and width of the kernel.
        geometry: The convolution's parameters.

    Returns:
        Offsets of the same shape, all of them finite.
    """
    batch, _, *size = offset.shape
    points = offset.reshape(batch, geometry.deformable_group, *kernel_size, 2, *size).unbind(4)
    grid = _grid(size, kernel_size, geometry, offset.device)
    outside = torch.zeros((), dtype=torch.bool, device=offset.device)
    for point, base, length in zip(points, grid, input_size, strict=True):
        place = point + base
        outside = outside | ~((place > -1) & (place < length))  # NaN too
    moved = [
        torch.where(outside, (FAR_OUTSIDE - base).to(offset.dtype), point)
        for point, base in zip(points, grid, strict=True)
    ]
    return torch.stack(moved, dim=4).reshape(offset.shape)


def _grid(
    size: Sequence[int], kernel_size: Sequence[int], geometry: Geometry, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows and columns sampled without offsets, to broadcast to (kernel_size, *size)."""
    axes = []
    for axis in range(2):
        stride, padding, dilation = geometry.along(axis)
        start = torch.arange(size[axis], device=device) * stride - padding
        axes.append(start + torch.arange(kernel_size[axis], device=device)[:, None] * dilation)
    rows, columns = axes
    return rows[:, None, :, None], columns[None, :, None, :]

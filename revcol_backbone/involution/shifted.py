"""The involution by shifts: every window position adds one shifted, weighted copy of the input.

Unfolding writes K * K copies of the input to memory. Here the input is padded once and worked on
in tiles that stay in the processor's cache. Within a tile, one column of the windows at a time is
copied to straight rows, in which every row of the windows is a plain offset, so that each of the
K * K steps is one multiply-add over long runs of contiguous memory. Half precision is accumulated
in float32.

These functions run on any device and are the reference that the GPU kernels are compared with. They
record no gradients; :mod:`revcol_backbone.involution.operator` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements of a tile for each thread: 1 MiB of float32. Smaller tiles stay in more processors'
# second-level caches, but pay for more steps; half and twice as many are equally fast.
TILE_ELEMENTS = 262144


def aggregate(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Sum every pixel's window, weighted by that pixel's kernel (arXiv 2103.06255, equation 4).

    Args:
        x: Input (B, C, H, W).
        kernel: Kernels (B, G, K * K, ceil(H / stride), ceil(W / stride)), one for each output
            pixel and group of C / G channels.
        stride: Step between window centers, in pixels.

    Returns:
        (B, C, ceil(H / stride), ceil(W / stride)).
    """
    sizes = _Sizes(x.shape, kernel.shape, stride, x.dtype)
    padded, kernel = sizes.pad(x), sizes.merge_groups(kernel)
    out = x.new_empty(sizes.output_shape)
    merged = sizes.merge_groups(out)
    for tile in sizes.tiles(x.device):
        weights = tile.cut(kernel).to(sizes.dtype)
        weight_of = weights.unsqueeze(1).unbind(2)
        total = weights.new_zeros(len(weights), sizes.group_width, weights.shape[-1])
        for column in sizes.columns():
            source = sizes.straighten(sizes.under(padded, tile, column))
            shifts = sizes.row_shifts(source, tile).unbind(2)
            for shifted, weight in zip(shifts, weight_of[column.positions], strict=True):
                total.addcmul_(shifted, weight)
        tile.cut(merged).copy_(total)
    return out


def input_gradient(
    grad: Tensor, kernel: Tensor, input_shape: tuple[int, ...], stride: int
) -> Tensor:
    """Apply the transpose of :func:`aggregate` in its input.

    Args:
        grad: Gradient of the output (B, C, ceil(H / stride), ceil(W / stride)).
        kernel: As in :func:`aggregate`.
        input_shape: (B, C, H, W).
        stride: As in :func:`aggregate`.

    Returns:
        Gradient of the input (B, C, H, W).
    """
    sizes = _Sizes(input_shape, kernel.shape, stride, grad.dtype)
    grad, kernel = sizes.merge_groups(grad), sizes.merge_groups(kernel)
    padded = grad.new_zeros(sizes.padded_shape, dtype=sizes.dtype)
    for tile in sizes.tiles(grad.device):
        values = tile.cut(grad).to(sizes.dtype)
        weight_of = tile.cut(kernel).to(sizes.dtype).unsqueeze(1).unbind(2)
        for column in sizes.columns():
            target = sizes.under(padded, tile, column)
            spread = torch.zeros_like(target, memory_format=torch.contiguous_format)
            shifts = sizes.row_shifts(spread, tile).unbind(2)
            for shifted, weight in zip(shifts, weight_of[column.positions], strict=True):
                shifted.addcmul_(values, weight)
            target.add_(spread)
    return sizes.crop(padded, grad.dtype)


def kernel_gradient(grad: Tensor, x: Tensor, kernel_shape: tuple[int, ...], stride: int) -> Tensor:
    """Apply the transpose of :func:`aggregate` in its kernels.

    Args:
        grad: Gradient of the output (B, C, ceil(H / stride), ceil(W / stride)).
        x: Input (B, C, H, W).
        kernel_shape: (B, G, K * K, ceil(H / stride), ceil(W / stride)).
        stride: As in :func:`aggregate`.

    Returns:
        Gradient of the kernels, of ``kernel_shape``.
    """
    sizes = _Sizes(x.shape, kernel_shape, stride, grad.dtype)
    padded, grad = sizes.pad(x), sizes.merge_groups(grad)
    out = grad.new_empty(kernel_shape)
    merged = sizes.merge_groups(out)
    for tile in sizes.tiles(grad.device):
        values = tile.cut(grad).to(sizes.dtype)
        value_of = values.unsqueeze(2).unbind(1)
        total = values.new_zeros(len(values), kernel_shape[2], values.shape[-1])
        for column in sizes.columns():
            part = total[:, column.positions]
            source = sizes.straighten(sizes.under(padded, tile, column))
            shifts = sizes.row_shifts(source, tile).unbind(1)
            for shifted, value in zip(shifts, value_of, strict=True):
                part.addcmul_(shifted, value)
        tile.cut(merged).copy_(total)
    return out


class _Tile(NamedTuple):
    """Some groups of some images, and some rows of the output."""

    groups: slice
    top: int
    rows: int

    def cut(self, merged: Tensor) -> Tensor:
        """View the tile of a tensor (B * G, n, H', W') as (groups of the tile, n, pixels)."""
        return merged[self.groups, :, self.top : self.top + self.rows].flatten(2)


class _Column(NamedTuple):
    """One column of the windows, and those of its rows that are a multiple of the stride apart."""

    left: int
    top: int
    rows: int
    positions: slice


class _Sizes:
    """What the three functions share: sizes, and the ways from tensors to tiles and back."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        kernel_shape: tuple[int, ...],
        stride: int,
        dtype: torch.dtype,
    ) -> None:
        batch, channels, self.height, self.width = self.input_shape = tuple(input_shape)
        _, groups, positions, self.out_height, self.out_width = kernel_shape
        self.output_shape = (batch, channels, self.out_height, self.out_width)
        self.merged = batch * groups
        self.group_width = channels // groups
        self.kernel_size = math.isqrt(positions)
        self.margin = (self.kernel_size - 1) // 2
        self.stride = stride
        self.dtype = torch.promote_types(dtype, torch.float32)

    @property
    def padded_shape(self) -> tuple[int, ...]:
        height, width = self.height + 2 * self.margin, self.width + 2 * self.margin
        return self.merged, self.group_width, height, width

    def pad(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.margin,) * 4).reshape(self.padded_shape)

    def crop(self, padded: Tensor, dtype: torch.dtype) -> Tensor:
        rows = slice(self.margin, self.margin + self.height)
        columns = slice(self.margin, self.margin + self.width)
        # A copy even of the whole: autograd forbids changing a result in place that is a view.
        out = padded.new_empty(self.input_shape, dtype=dtype)
        out.view(self.merged, self.group_width, self.height, self.width).copy_(
            padded[..., rows, columns]
        )
        return out

    def merge_groups(self, tensor: Tensor) -> Tensor:
        per_group = self.group_width if tensor.ndim == 4 else self.kernel_size**2
        return tensor.reshape(self.merged, per_group, self.out_height, self.out_width)

    def tiles(self, device: torch.device) -> Iterator[_Tile]:
        elements = TILE_ELEMENTS * torch.get_num_threads()
        if device.type != 'cpu':  # a GPU wants few large steps
            elements = math.prod(self.output_shape)
        row = self.group_width * self.out_width
        groups = max(min(elements // (row * self.out_height), self.merged), 1)
        rows = max(min(elements // (row * groups), self.out_height), 1)
        for first in range(0, self.merged, groups):
            for top in range(0, self.out_height, rows):
                yield _Tile(slice(first, first + groups), top, min(rows, self.out_height - top))

    def columns(self) -> Iterator[_Column]:
        size, stride = self.kernel_size, self.stride
        for top in range(min(stride, size)):
            for left in range(size):
                rows = len(range(top, size, stride))
                yield _Column(left, top, rows, slice(top * size + left, None, stride * size))

    def under(self, padded: Tensor, tile: _Tile, column: _Column) -> Tensor:
        """View what a tile sees through one column of its windows."""
        top = tile.top * self.stride + column.top
        bottom = top + (tile.rows + column.rows - 2) * self.stride + 1
        right = column.left + (self.out_width - 1) * self.stride + 1
        return padded[tile.groups, :, top : bottom : self.stride, column.left : right : self.stride]

    def straighten(self, source: Tensor) -> Tensor:
        return source.to(self.dtype, copy=True, memory_format=torch.contiguous_format)

    def row_shifts(self, straight: Tensor, tile: _Tile) -> Tensor:
        """View a straight copy once for each window row: (groups, channels, rows, pixels)."""
        groups, channels, rows, width = straight.shape
        shape = (groups, channels, rows - tile.rows + 1, tile.rows * width)
        return straight.as_strided(shape, (channels * rows * width, rows * width, width, 1))

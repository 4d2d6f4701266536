"""The collision term on CPUs, in tiles that stay in the cache from the first step to the last.

A whole output seldom fits a core's cache, and each of the term's steps over it would read and write
slower memory. Shapes are those of :class:`revcol_backbone.ic.collision.Collide`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

# Elements of a tile for each thread: with the two that are in use at once, 2 MB, a core's cache.
TILE_ELEMENTS = 1 << 18


def collide_(
    v: Tensor,
    sums: Tensor,
    weight: Tensor,
    offset: Tensor,
    gain: Tensor | None = None,
    lowest: Tensor | None = None,
    highest: Tensor | None = None,
) -> None:
    """Add ``gain * relu(v - weight * sums + offset)`` to v, or that term within its bounds."""
    bounds = () if lowest is None else (lowest, highest)
    gains = () if gain is None else (gain,)
    term = None
    for part, seen, lines, shift, *others in _tiles(v, sums, weight, offset, *bounds, *gains):
        term = _add_term(_buffer(term, part, sums.dtype), part, seen, lines, shift)
        if lowest is None:
            term.relu_()
        else:
            torch.maximum(term, others[0], out=term)
            torch.minimum(term, others[1], out=term)
        if gain is None:
            part.add_(term)
        else:
            part.copy_(torch.addcmul(part, term, others[-1], out=term))


def collide_and_mark_(v: Tensor, sums: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    """Add ``relu(v - weight * sums + offset)`` to v; return a mask of where it is above 0."""
    is_active = torch.empty_like(v, dtype=torch.bool)
    term = None
    for part, mask, *others in _tiles(v, is_active, sums, weight, offset):
        term = _add_term(_buffer(term, part, sums.dtype), part, *others).relu_()
        mask.copy_(term)
        part.add_(term)
    return is_active


def _add_term(term: Tensor, v: Tensor, sums: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    return torch.addcmul(v, sums, weight, value=-1, out=term).add_(offset)


def gradients(
    grad: Tensor, is_active: Tensor, sums: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of v, sums, weight and offset, the last three in the dtype of sums."""
    grad_v = torch.empty_like(is_active, dtype=grad.dtype)
    weight = weight.to(sums.dtype)
    grad_sums, grad_weight, grad_offset = map(torch.zeros_like, (sums, weight, weight))
    tensors = (is_active.view(torch.uint8), grad, grad_v, sums, weight)
    active = None
    for mask, given, target, seen, lines, of_sums, of_weight, of_offset in _tiles(
        *tensors, grad_sums, grad_weight, grad_offset
    ):
        active = _buffer(active, mask, sums.dtype).copy_(mask).mul_(given)
        torch.add(given, active, out=target)
        of_sums.sub_(lines.transpose(2, 3) @ active)
        of_weight.sub_((active @ seen.transpose(2, 3)).sum(0, keepdim=True))
        of_offset.add_(active.sum((0, 3), True))
    return grad_v, grad_sums, grad_weight, grad_offset


def _buffer(last: Tensor | None, tile: Tensor, dtype: torch.dtype) -> Tensor:
    """A tile's intermediate result, in the place of the last one; the first tile is the largest."""
    if last is None:
        return torch.empty_like(tile, dtype=dtype)
    if last.shape == tile.shape:
        return last
    return last[tuple(map(slice, tile.shape))]


def _tiles(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Cut tensors alike, the first one along its outermost dimensions in memory.

    Dimensions that the first tensor has and another one lacks, having 1, are not cut in that one.
    """
    shape = tensors[0].shape
    tiles: list[tuple[Tensor, ...]] = [tensors]
    for axis, step in _steps(tensors[0]):
        tiles = [
            part
            for tile in tiles
            for part in zip(
                *(
                    tensor.split(step, axis)
                    if tensor.shape[axis] == shape[axis]
                    else itertools.repeat(tensor)
                    for tensor in tile
                ),
                strict=False,
            )
        ]
    return tiles


def _steps(tensor: Tensor) -> list[tuple[int, int]]:
    """The dimensions to cut, and how many of their indices make a tile."""
    largest, inner = TILE_ELEMENTS * torch.get_num_threads(), tensor.numel()
    steps: list[tuple[int, int]] = []
    for axis in sorted(range(tensor.ndim), key=tensor.stride, reverse=True):
        if inner <= largest:
            break
        inner //= tensor.shape[axis]
        if tensor.shape[axis] > 1:
            # Tiles alike in size, rather than full ones and a small rest.
            tiles = -(-tensor.shape[axis] // max(largest // inner, 1))
            steps.append((axis, -(-tensor.shape[axis] // tiles)))
    return steps

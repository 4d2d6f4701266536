"""The collision term on CPUs, in tiles that stay in the cache from the first step to the last.

A whole output seldom fits a core's cache, and each of the term's steps over it would read and write
slower memory.Shapes are those of :class:`revcol_backbone.ic.collision.Collide`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

# Elements of a tile for each thread: with the two that are in use at once, 2 MB, a core's cache.
TILE_ELEMENTS = 1 << 18


def collide_(
    v: Tensor, sums: Tensor, weight: Tensor, floor: Tensor, ceiling: Tensor | None = None
) -> Tensor:
    """Write ``v + max(v - weight * sums, floor)`` over v; the term is at most ``ceiling``."""
    bounds = (floor,) if ceiling is None else (floor, ceiling)
    for part, seen, lines, lowest, *highest in _tiles(v, sums, weight, *bounds):
        term = torch.addcmul(part, seen, lines, value=-1)
        torch.maximum(term, lowest, out=term)
        if highest:
            torch.minimum(term, *highest, out=term)
        part.add_(term)
    return v


def collide_and_mark(
    v: Tensor, sums: Tensor, weight: Tensor, floor: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the same beside v, and a mask of the elements where the term is above the floor."""
    out, is_active = torch.empty_like(v), torch.empty_like(v, dtype=torch.bool)
    for part, target, mask, *others, lowest in _tiles(v, out, is_active, sums, weight, floor):
        term = torch.addcmul(part, *others, value=-1)
        # Vectorized to the term's own dtype, and from there to booleans, but not at once.
        mask.copy_(torch.gt(term, lowest, out=torch.empty_like(term)))
        torch.add(part, torch.maximum(term, lowest, out=term), out=target)
    return out, is_active


def gradients(
    grad: Tensor, is_active: Tensor, sums: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of v, sums, weight and floor, the last three in the dtype of sums."""
    grad_v = torch.empty_like(is_active, dtype=grad.dtype)
    weight = weight.to(sums.dtype)
    grad_sums, grad_weight, grad_floor = map(torch.zeros_like, (sums, weight, weight))
    tensors = (is_active.view(torch.uint8), grad, grad_v, sums, weight)
    for mask, given, target, seen, lines, of_sums, of_weight, of_floor in _tiles(
        *tensors, grad_sums, grad_weight, grad_floor
    ):
        active = torch.empty_like(mask, dtype=sums.dtype).copy_(mask).mul_(given)
        torch.add(given, active, out=target)
        of_sums.sub_(lines.transpose(2, 3) @ active)
        of_weight.sub_((active @ seen.transpose(2, 3)).sum(0, keepdim=True))
        of_floor.add_(given.sum((0, 3), True, dtype=sums.dtype).sub_(active.sum((0, 3), True)))
    return grad_v, grad_sums, grad_weight, grad_floor


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
            steps.append((axis, max(largest // inner, 1)))
    return steps

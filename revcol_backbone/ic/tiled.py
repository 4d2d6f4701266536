"""The collision term on CPUs, in tiles that stay in the cache from the first step to the last.

A whole output seldom fits a core's cache, and each of the term's steps over it would read and write
slower memory. Shapes are those of :class:`revcol_backbone.ic.collision.Collide`.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

# Elements of a tile for each thread. With their intermediate result they are 2 MB, which a core's
# cache holds; larger results are also slower to allocate, because the C library asks for their
# pages anew, and smaller ones let the threads wait for each other more often.
TILE_ELEMENTS = 1 << 18


def collide_(
    v: Tensor,
    sums: Tensor,
    weight: Tensor,
    offset: Tensor | None,
    gain: Tensor | None = None,
    lowest: Tensor | None = None,
    highest: Tensor | None = None,
) -> None:
    """Add ``gain * relu(v - weight * sums + offset)`` to v, or that term within its bounds."""
    optional = [each for each in (offset, gain, lowest, highest) if each is not None]
    tiles = _tiles(v, sums, weight, *optional)
    space = torch.empty_like(tiles[0][0], dtype=sums.dtype)
    for part, seen, lines, *others in tiles:
        parameters = iter(others)
        term = torch.addcmul(part, seen, lines, value=-1, out=_part(space, part))
        if offset is not None:
            term.add_(next(parameters))
        factor = None if gain is None else next(parameters)
        if lowest is None:
            term.relu_()
        else:
            torch.maximum(term, next(parameters), out=term)
            torch.minimum(term, next(parameters), out=term)
        if factor is None:
            part.add_(term)
        else:
            part.copy_(torch.addcmul(part, term, factor, out=term))


def collide_and_mark_(v: Tensor, sums: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    """Add ``relu(v - weight * sums + offset)`` to v; return a mask of where it is above 0."""
    is_active = torch.empty_like(v, dtype=torch.bool)
    tiles = _tiles(v, is_active, sums, weight, offset)
    space = torch.empty_like(tiles[0][0], dtype=sums.dtype)
    for part, mask, seen, lines, shift in tiles:
        term = torch.addcmul(part, seen, lines, value=-1, out=_part(space, part))
        mask.copy_(term.add_(shift).relu_())
        part.add_(term)
    return is_active


def gradients(
    grad: Tensor, is_active: Tensor, sums: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of v, sums, weight and offset, the last three in the dtype of sums."""
    grad_v = torch.empty_like(is_active, dtype=grad.dtype)
    weight = weight.to(sums.dtype)
    grad_sums = torch.zeros_like(sums)
    # One product gives the gradients of weight and offset, side by side in a fifth dimension.
    seen_and_ones = torch.stack([sums, torch.ones_like(sums)], -1)
    grad_parameters = sums.new_zeros(*weight.shape, 2)
    tensors = (is_active.view(torch.uint8), grad, grad_v, weight)
    tiles = _tiles(*tensors, grad_sums, seen_and_ones, grad_parameters)
    space = torch.empty_like(tiles[0][0], dtype=sums.dtype)
    for mask, given, target, lines, of_sums, seen, of_parameters in tiles:
        active = _part(space, mask).copy_(mask).mul_(given)
        torch.add(given, active, out=target)
        of_sums.sub_(lines.transpose(2, 3) @ active)
        of_parameters.squeeze(3).add_((active @ seen.squeeze(2)).sum(0, keepdim=True))
    return grad_v, grad_sums, -grad_parameters[..., 0], grad_parameters[..., 1]


def _part(space: Tensor, tile: Tensor) -> Tensor:
    """Space for a result of a tile, in that of the first one, which is the largest."""
    return space if space.shape == tile.shape else space[tuple(map(slice, tile.shape))]


def _tiles(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
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
    largest = TILE_ELEMENTS * torch.get_num_threads()
    inner = tensor.numel()
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

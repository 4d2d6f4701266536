"""Deformable RoI pooling (Dai et al., 2017) of ``mmcv._ext``: RoIAlign whose bins are moved.

mmcv's compiled operators need a GPU; these run on every device.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from revcol_backbone.mmcv_ops.precision import at_least_float32
from revcol_backbone.mmcv_ops.regions import bins_of, check_bins, check_regions, samples_per_bin

SAMPLES_AT_ONCE = 2**24  # bounds the memory of sampled features (64 MiB in float32)


class _Samples(NamedTuple):
    """Sampling points of some regions, as (regions, bins y, bins x, samples y, samples x)."""

    regions: Tensor  # their indices
    per_bin: int  # how many
    y: Tensor
    x: Tensor
    inside: Tensor
    cells: dict[tuple[int, int], Tensor]  # rows of the table at (low or high y, low or high x)
    y_ends: tuple[Tensor, Tensor]  # the cells around y
    x_ends: tuple[Tensor, Tensor]

    def weights(self) -> dict[tuple[int, int], Tensor]:
        """Bilinear weights of the four cells; zeros outside the features."""
        sides = []
        for low, high, place in ((*self.y_ends, self.y), (*self.x_ends, self.x)):
            share = torch.where(high > low, (place - low).clamp(0, 1), 0)
            sides.append((1 - share, share))
        return {
            corner: sides[0][corner[0]] * sides[1][corner[1]] * self.inside for corner in self.cells
        }


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the pooled features of each region into ``output``.

    Args:
        input: (B, C, H, W) features.
        rois: (R, 5) as image index, x1, y1, x2, y2.
        offset: (R, 2, pooled_height, pooled_width): moves of the bins as x, y in units of
            ``gamma`` times the region's size; empty for none.
        output: (R, C, pooled_height, pooled_width), written.
        pooled_height: Bins per region, vertically.
        pooled_width: Bins per region, horizontally.
        spatial_scale: Feature cells per unit of ``rois``.
        sampling_ratio: Samples per bin and axis; 0 for one per feature cell.
        gamma: Scale of the offsets.
    """
    features, regions, moves = at_least_float32(input, rois, offset)
    table = _table(features)
    output.zero_()
    size = (pooled_height, pooled_width)
    for samples in _sample(features, regions, moves, size, spatial_scale, sampling_ratio, gamma):
        pooled = features.new_zeros(())
        for corner, weight in samples.weights().items():
            pooled = pooled + (table[samples.cells[corner]] * weight[..., None]).sum((3, 4))
        output[samples.regions] = (pooled / samples.per_bin).movedim(3, 1).to(output.dtype)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Add the gradients of the features and the offsets to ``grad_input`` and ``grad_offset``."""
    features, regions, moves, gradient = at_least_float32(input, rois, offset, grad_output)
    table = _table(features)
    update = torch.zeros_like(table)
    size = (pooled_height, pooled_width)
    extents = bins_of(regions, spatial_scale, size, aligned=True)[1] * regions.new_tensor(size)
    for samples in _sample(features, regions, moves, size, spatial_scale, sampling_ratio, gamma):
        share = gradient[samples.regions].movedim(1, 3)[:, :, :, None, None] / samples.per_bin
        for corner, weight in samples.weights().items():
            change = (share * weight[..., None]).flatten(0, 4)
            update.index_add_(0, samples.cells[corner].flatten(), change)
        if offset.numel():
            scale = gamma * extents[samples.regions]
            slopes = _slopes(table, samples, share)
            for channel, (slope, axis) in enumerate(((slopes[1], 1), (slopes[0], 0))):
                found = slope.sum((3, 4)) * scale[:, axis, None, None]
                grad_offset[samples.regions, channel] += found.to(grad_offset.dtype)
    batch, channels, height, width = grad_input.shape
    grad_input.add_(update.view(batch, height, width, channels).movedim(3, 1))


def _slopes(table: Tensor, samples: _Samples, share: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of the loss by y and x of every sample, as mmcv defines them at borders."""
    values = {corner: (table[cell] * share).sum(-1) for corner, cell in samples.cells.items()}
    (y_low, y_high), (x_low, x_high) = samples.y_ends, samples.x_ends
    by_y = (values[1, 1] - values[0, 1]) * (samples.x - x_low)
    by_y = by_y + (values[1, 0] - values[0, 0]) * (x_high - samples.x)
    by_x = (values[1, 1] - values[1, 0]) * (samples.y - y_low)
    by_x = by_x + (values[0, 1] - values[0, 0]) * (y_high - samples.y)
    return torch.where(samples.inside, by_y, 0), torch.where(samples.inside, by_x, 0)


def _sample(
    features: Tensor,
    regions: Tensor,
    moves: Tensor,
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Iterator[_Samples]:
    """Sampling points of regions that have equally many, a bounded number at a time."""
    check_regions('DeformRoIPool', regions, len(features))
    start, bin_size = bins_of(regions, spatial_scale, size, aligned=True)
    if sampling_ratio <= 0:
        check_bins('DeformRoIPool', bin_size)
    grid = samples_per_bin(bin_size, sampling_ratio)
    for count in grid.unique(dim=0).tolist():
        if min(count) <= 0:
            continue
        chosen = (grid == grid.new_tensor(count)).all(dim=1).nonzero().squeeze(1)
        per_region = features.size(1) * size[0] * size[1] * count[0] * count[1]
        for part in chosen.split(max(1, SAMPLES_AT_ONCE // per_region)):
            places = []
            for axis in range(2):
                step = bin_size[part, axis]
                first = start[part, axis, None, None]
                if moves.numel():
                    extent = step * size[axis]
                    first = first + gamma * extent[:, None, None] * moves[part, 1 - axis]
                number = torch.arange(size[axis]).to(regions)
                bins = number[:, None] if axis == 0 else number
                within = (torch.arange(count[axis]).to(regions) + 0.5) / count[axis]
                place = (first + bins * step[:, None, None])[..., None]
                place = (place + within * step[:, None, None, None]).expand(-1, *size, count[axis])
                places.append(place)
            yield _place(features, regions[part, 0].long(), part, *places)


def _place(
    features: Tensor, images: Tensor, regions: Tensor, rows: Tensor, columns: Tensor
) -> _Samples:
    height, width = features.shape[2:]
    y, x = rows[..., :, None], columns[..., None, :]
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y_ends, x_ends = _ends(y, height), _ends(x, width)
    first = (images * (height * width)).view(-1, 1, 1, 1, 1)
    cells = {(i, j): first + y_ends[i] * width + x_ends[j] for i in range(2) for j in range(2)}
    count = rows.size(-1) * columns.size(-1)
    return _Samples(regions, count, y, x, inside, cells, y_ends, x_ends)


def _ends(place: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The two cells around a place, which are one at the far border."""
    low = place.clamp(0, length - 1).long()
    return low, (low + 1).clamp(max=length - 1)


def _table(features: Tensor) -> Tensor:
    return features.movedim(1, 3).reshape(-1, features.size(1))

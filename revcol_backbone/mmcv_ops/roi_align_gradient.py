"""The gradient of average RoIAlign, on CPUs by matrix products.

A region's samples lie on a grid, and bilinear interpolation is a product of one weight for each
axis. So a region's bins are ``rows @ patch @ columns^T``, with ``patch`` the features that it sees,
and the gradient of the patch is ``rows^T @ gradient @ columns``, for all channels at once.
torchvision's kernel adds one number at a time, on one thread.
"""

from __future__ import annotations

import torch
from torch import Tensor

from revcol_backbone.mmcv_ops.regions import bins_of, neighbors, samples_per_bin

# Samples of all regions along one axis; beyond that their weights would take too much memory.
MOST_SAMPLES = 2**24


def average_gradient(
    gradient: Tensor,
    regions: Tensor,
    spatial_scale: float,
    shape: tuple[int, ...],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Compute the gradient of the features from that of the pooled bins.

    Args:
        gradient: (R, C, h, w), float32 or wider.
        regions: (R, 5) as image index, x1, y1, x2, y2, in the dtype of ``gradient``.
        spatial_scale: Feature cells per unit of ``regions``.
        shape: (B, C, H, W) of the features.
        sampling_ratio: Samples per bin and axis; 0 for one per feature cell.
        aligned: Whether samples are moved by half a cell.

    Returns:
        (B, C, H, W).
    """
    size = (gradient.shape[2], gradient.shape[3])
    samples = _samples(regions, spatial_scale, size, sampling_ratio, aligned)
    if samples is None:
        return torch.ops.torchvision._roi_align_backward(
            gradient, regions, spatial_scale, *size, *shape, sampling_ratio, aligned
        )
    start, bin_size, counts = samples
    batch, channels, height, width = shape
    found = gradient.new_zeros(batch, height, width, channels)
    if not len(regions):
        return found.permute(0, 3, 1, 2)
    rows, tops, heights = _axis_weights(start, bin_size, counts, 0, size[0], height)
    columns, lefts, widths = _axis_weights(start, bin_size, counts, 1, size[1], width)
    columns = columns.transpose(1, 2).contiguous()
    by_channel = gradient.permute(0, 2, 3, 1).contiguous()
    images = regions[:, 0].long().tolist()
    for index, image in enumerate(images):
        (top, tall), (left, wide) = (tops[index], heights[index]), (lefts[index], widths[index])
        if not (tall and wide):
            continue
        # (h, w, C) to (h, wide, C), and on to (tall, wide, C).
        across = torch.matmul(columns[index, :wide], by_channel[index])
        patch = rows[index, :, :tall].t() @ across.flatten(1)
        found[image, top : top + tall, left : left + wide] += patch.view(tall, wide, channels)
    return found.permute(0, 3, 1, 2)


def _samples(
    regions: Tensor, spatial_scale: float, size: tuple[int, int], sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Each region's start, size of bins and samples in a bin; None where products do not pay."""
    if regions.device.type != 'cpu':
        return None
    start, bin_size = bins_of(regions, spatial_scale, size, aligned)
    counts = samples_per_bin(bin_size, sampling_ratio)
    most = int(counts.max()) if len(counts) else 0
    return None if most * len(regions) * max(size) > MOST_SAMPLES else (start, bin_size, counts)


def _axis_weights(
    start: Tensor, bin_size: Tensor, counts: Tensor, axis: int, bins: int, length: int
) -> tuple[Tensor, list[int], list[int]]:
    """The weight of each feature cell in each bin along one axis, over the samples of the bin.

    Returns:
        Weights (R, bins, cells) of the cells from the first one that a region sees, the first ones,
        and how many cells each region sees.
    """
    start, bin_size, counts = start[:, axis], bin_size[:, axis], counts[:, axis]
    samples = torch.arange(max(1, int(counts.max())), device=start.device)
    step = bin_size / counts.clamp(min=1)
    of_bin = start[:, None] + torch.arange(bins, device=start.device) * bin_size[:, None]
    places = of_bin[:, :, None] + (samples + 0.5) * step[:, None, None]
    is_seen = (samples < counts[:, None, None]) & (places >= -1) & (places <= length)
    share = is_seen.to(places.dtype) / counts.clamp(min=1)[:, None, None]
    (lower, _), (upper, _) = both = neighbors(places, length)
    first = lower.where(is_seen, length).amin((1, 2))
    seen = (upper.where(is_seen, -1).amax((1, 2)) + 1 - first).clamp(min=0)
    weights = places.new_zeros(len(start), bins, max(1, int(seen.max())))
    for cell, weight in both:
        offset = (cell - first[:, None, None]).where(is_seen, 0)
        weights.scatter_add_(2, offset, weight * share)
    return weights, first.tolist(), seen.tolist()

"""RoIAlign (He et al., 2017): ``roi_align_forward`` and ``roi_align_backward`` of ``mmcv._ext``."""

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from revcol_backbone.mmcv_ops.precision import at_least_float32
from revcol_backbone.mmcv_ops.regions import (
    bins_of,
    check_bins,
    check_regions,
    neighbors,
    samples_per_bin,
)
from revcol_backbone.mmcv_ops.roi_align_gradient import average_gradient

MAX_POOLING = 0  # mmcv's number; every other one is average pooling
OUTSIDE = -1.0  # argmax of a bin without samples
SAMPLES_AT_ONCE = 2**26  # bounds the memory of max pooling (256 MiB in float32)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the pooled features of each region of interest into ``output``.

    Args:
        input: (B, C, H, W) features.
        rois: (R, 5) as image index, x1, y1, x2, y2.
        output: (R, C, aligned_height, aligned_width), written.
        argmax_y: Shaped as ``output``, written in max pooling: row of the largest sample,
            -1 in bins without samples, whose output is the lowest number of its type.
        argmax_x: The same for columns.
        aligned_height: Bins per region, vertically.
        aligned_width: Bins per region, horizontally.
        spatial_scale: Feature cells per unit of ``rois``.
        sampling_ratio: Samples per bin and axis; 0 for one per feature cell.
        pool_mode: 0 for max, 1 for average.
        aligned: Whether to move samples by half a cell. Without it (legacy), regions are at
            least one cell wide and high.

    Raises:
        ValueError: On CPUs, a region is not finite, of no image of the batch, or absurdly large.
    """
    features, regions = at_least_float32(input, rois)
    size = (aligned_height, aligned_width)
    check_regions('RoIAlign', regions, len(features))
    start, bin_size = bins_of(regions, spatial_scale, size, aligned)
    if sampling_ratio <= 0:
        check_bins('RoIAlign', bin_size)
    if pool_mode != MAX_POOLING:
        output.copy_(_average(features, regions, spatial_scale, size, sampling_ratio, aligned))
        return
    output.fill_(torch.finfo(output.dtype).min)
    argmax_y.fill_(OUTSIDE)
    argmax_x.fill_(OUTSIDE)
    grid = samples_per_bin(bin_size, sampling_ratio)
    for samples in grid.unique(dim=0).tolist():
        if min(samples) <= 0:
            continue
        chosen = (grid == grid.new_tensor(samples)).all(dim=1).nonzero().squeeze(1)
        per_region = output[0].numel() * samples[0] * samples[1]
        for part in chosen.split(max(1, SAMPLES_AT_ONCE // per_region)):
            largest, row, column = _max(
                features, regions[part], spatial_scale, size, samples, aligned
            )
            output[part] = largest.to(output.dtype)
            for axis, position, argmax in ((0, row, argmax_y), (1, column, argmax_x)):
                step = bin_size[part, axis] / samples[axis]
                place = start[part, axis].view(-1, 1, 1, 1) + position * step.view(-1, 1, 1, 1)
                argmax[part] = place.to(argmax.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of the features to ``grad_input`` (B, C, H, W).

    ``grad_output`` is (R, C, aligned_height, aligned_width); the rest is as in
    :func:`roi_align_forward`.
    """
    gradient, regions, rows, columns = at_least_float32(grad_output, rois, argmax_y, argmax_x)
    if pool_mode == MAX_POOLING:
        update = _max_backward(gradient, regions, rows, columns, grad_input.shape)
    else:
        update = average_gradient(
            gradient, regions, spatial_scale, tuple(grad_input.shape), sampling_ratio, aligned
        )
    grad_input.add_(update)


def _average(
    features: Tensor,
    regions: Tensor,
    spatial_scale: float,
    size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return torch.ops.torchvision.roi_align(
        features, regions, spatial_scale, *size, sampling_ratio, aligned
    )


def _max(
    features: Tensor,
    regions: Tensor,
    spatial_scale: float,
    size: tuple[int, int],
    samples: list[int],
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Largest sample of each bin, with its place in steps from the region's start."""
    # Averages over bins of one sample are the samples themselves.
    fine_size = (size[0] * samples[0], size[1] * samples[1])
    values = _average(features, regions, spatial_scale, fine_size, 1, aligned)
    largest, index = F.max_pool2d(values, samples, return_indices=True)
    row = index.div(fine_size[1], rounding_mode='floor')
    return largest, row + 0.5, index - row * fine_size[1] + 0.5


def _max_backward(
    gradient: Tensor, regions: Tensor, rows: Tensor, columns: Tensor, shape: torch.Size
) -> Tensor:
    """Spread each bin's gradient over the four cells around its largest sample."""
    batch, channels, height, width = shape
    sampled = (rows != OUTSIDE) & (rows >= -1) & (rows <= height)
    sampled &= (columns >= -1) & (columns <= width)
    plane = regions[:, :1].long() * channels + torch.arange(channels, device=regions.device)
    update = gradient.new_zeros(batch * channels * height * width)
    for row, row_weight in neighbors(rows, height):
        for column, column_weight in neighbors(columns, width):
            cell = (plane[:, :, None, None] * height + row) * width + column
            share = torch.where(sampled, gradient * row_weight * column_weight, 0)
            update.index_add_(0, cell.flatten(), share.flatten())
    return update.view(shape)

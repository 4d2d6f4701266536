"""RoIPool (Girshick, 2015) of ``mmcv._ext``.

Its bins are not torchvision's: mmcv does not round the regions. mmcv's compiled operator needs a
GPU; this one runs on every device.
"""

import torch
from torch import Tensor

from revcol_backbone.mmcv_ops.precision import at_least_float32
from revcol_backbone.mmcv_ops.regions import check_regions

NOTHING = -1  # argmax of an empty bin


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the largest feature of each bin into ``output``.

    Args:
        input: (B, C, H, W) features.
        rois: (R, 5) as image index, x1, y1, x2, y2, corners inclusive.
        output: (R, C, pooled_height, pooled_width), written; 0 in empty bins.
        argmax: Shaped as ``output``, int32, written: index of the largest feature in its plane, -1
            in empty bins.
        pooled_height: Bins per region, vertically.
        pooled_width: Bins per region, horizontally.
        spatial_scale: Feature cells per unit of ``rois``.
    """
    check_regions('RoIPool', rois, len(input))
    (regions,) = at_least_float32(rois)
    output.zero_()
    argmax.fill_(NOTHING)
    height, width = input.shape[2:]
    starts = regions[:, [2, 1]] * spatial_scale
    extents = (regions[:, [4, 3]] + 1) * spatial_scale - starts
    kept = (extents > 0).all(dim=1).nonzero().flatten()
    rows = _edges(starts[:, 0], extents[:, 0], pooled_height, height)
    columns = _edges(starts[:, 1], extents[:, 1], pooled_width, width)
    for index in kept.tolist():
        features = input[int(regions[index, 0])]
        for bin_row, (top, bottom) in enumerate(rows[index]):
            for bin_column, (left, right) in enumerate(columns[index]):
                if top >= bottom or left >= right:
                    continue
                largest, place = features[:, top:bottom, left:right].flatten(1).max(dim=1)
                row = place.div(right - left, rounding_mode='floor')
                column = place - row * (right - left)
                output[index, :, bin_row, bin_column] = largest
                argmax[index, :, bin_row, bin_column] = ((row + top) * width + column + left).to(
                    argmax.dtype
                )


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the gradient of the features to ``grad_input`` (B, C, H, W)."""
    channels, height, width = grad_input.shape[1:]
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    cell = plane[:, :, None, None] * (height * width) + argmax
    filled = argmax != NOTHING
    update = torch.zeros_like(grad_input, memory_format=torch.contiguous_format).view(-1)
    update.index_add_(0, cell[filled], grad_output[filled].to(update.dtype))
    grad_input.add_(update.view(grad_input.shape))


def _edges(start: Tensor, extent: Tensor, bins: int, length: int) -> list[list[tuple[int, int]]]:
    """First cell and end of every region's bins along one axis."""
    step = (extent / bins)[:, None]
    number = torch.arange(bins, device=start.device)
    first = (number * step + start[:, None]).floor().clamp(0, length).long()
    end = ((number + 1) * step + start[:, None]).ceil().clamp(0, length).long()
    return torch.stack([first, end], dim=2).tolist()

"""``bbox_overlaps`` of ``mmcv._ext``: intersection over union or over the first box."""

import torch
from torch import Tensor

IOU = 0  # mmcv's number; the other mode, 1, is the intersection over the first box


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Write the overlaps of boxes into ``ious``.

    Args:
        bboxes1: (M, 4) as x1, y1, x2, y2.
        bboxes2: (N, 4), with ``aligned`` N = M.
        ious: (M, N), with ``aligned`` (M,), written.
        mode: 0 for intersection over union, 1 for intersection over the first box.
        aligned: Compare boxes in pairs and not each with each.
        offset: Added to widths and heights: 0, or 1 for inclusive pixel coordinates.
    """
    first = bboxes1 if aligned else bboxes1[:, None]
    top_left = torch.maximum(first[..., :2], bboxes2[..., :2])
    bottom_right = torch.minimum(first[..., 2:], bboxes2[..., 2:])
    intersection = (bottom_right - top_left + offset).clamp(min=0).prod(-1)
    area = _area(first, offset)
    if mode == IOU:
        area = area + _area(bboxes2, offset) - intersection
    ious.copy_(intersection / area)


def _area(boxes: Tensor, offset: int) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2] + offset).prod(-1)

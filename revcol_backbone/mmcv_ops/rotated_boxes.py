"""``box_iou_rotated`` and ``nms_rotated`` of ``mmcv._ext``: rotated boxes as (x, y, w, h, angle).

The first box is brought into the frame of the second, where that is a rectangle around 0, and
clipped along x and then y: every edge is cut where it crosses the bounds, and coordinates beyond
them are clamped. What lies outside collapses onto the bounds, where it has no area.
"""

import torch
from torch import Tensor

from revcol_backbone.mmcv_ops.precision import at_least_float32

IOU, OVER_FIRST = 0, 1  # mmcv's numbers
SMALLEST_AREA = 1e-14  # with less, a box overlaps nothing
PAIRS_AT_ONCE = 2**16  # of 36 corners each
CORNERS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))


def box_iou_rotated(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Write the overlaps of rotated boxes into ``ious``; there are no gradients.

    Args:
        bboxes1: (M, 5) as center x and y, width, height and angle in radians, from x towards y.
        bboxes2: (N, 5), with ``aligned`` N = M.
        ious: (M * N,), with ``aligned`` (M,), written.
        mode_flag: 0 for intersection over union, 1 for intersection over the first box.
        aligned: Compare boxes in pairs and not each with each.
    """
    bboxes1, bboxes2 = (boxes.detach() for boxes in at_least_float32(bboxes1, bboxes2))
    count = len(bboxes1) if aligned else len(bboxes1) * len(bboxes2)
    for start in range(0, count, PAIRS_AT_ONCE):
        stop = min(start + PAIRS_AT_ONCE, count)
        pairs = torch.arange(start, stop, device=ious.device)
        first, second = (pairs, pairs) if aligned else (pairs // len(bboxes2), pairs % len(bboxes2))
        ious[start:stop] = _overlap(bboxes1[first], bboxes2[second], mode_flag)


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Greedy NMS of rotated boxes, whatever their labels, as mmcv's.

    Args:
        dets: (N, 5) boxes, or (N, 6) with a label that is not looked at.
        scores: (N,).
        order: Not used.
        dets_sorted: Not used.
        labels: Not used.
        iou_threshold: Boxes with at least this IoU are dropped; on GPUs those with a larger one.
        multi_label: Not used.

    Returns:
        (K,) int64 indices of the kept boxes, best score first.
    """
    dets, scores = at_least_float32(dets, scores)
    boxes = dets.detach()[:, :5]
    remaining = scores.argsort(descending=True, stable=True)
    exceeds = torch.gt if dets.is_cuda else torch.ge
    threshold = torch.tensor(iou_threshold, dtype=torch.float32)
    kept = []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(best)
        overlap = _overlap(boxes[best].expand(len(remaining), 5), boxes[remaining], IOU)
        remaining = remaining[~exceeds(overlap, threshold.to(overlap))]
    return torch.stack(kept) if kept else remaining


def _overlap(first: Tensor, second: Tensor, mode: int) -> Tensor:
    """Overlap of (P, 5) boxes with (P, 5) boxes."""
    areas = first[:, 2] * first[:, 3], second[:, 2] * second[:, 3]
    half_sizes = second[:, 2:4] / 2
    corners = _corners_in_frame(first, second)
    for axis in range(2):
        corners = _clip(corners, axis, half_sizes[:, axis, None])
    x, y = corners.unbind(-1)
    intersection = (x * y.roll(-1, -1) - y * x.roll(-1, -1)).sum(-1) / 2
    whole = areas[0] if mode == OVER_FIRST else areas[0] + areas[1] - intersection
    has_area = (areas[0] >= SMALLEST_AREA) & (areas[1] >= SMALLEST_AREA)
    return torch.where(has_area, intersection.clamp(min=0) / whole, 0)


def _corners_in_frame(first: Tensor, second: Tensor) -> Tensor:
    """The corners (P, 4, 2) of boxes in the frames of others, counterclockwise."""
    corners = first[:, None, 2:4] * first.new_tensor(CORNERS)
    corners = _rotate(corners, (first[:, 4] - second[:, 4])[:, None])
    return corners + _rotate(first[:, :2] - second[:, :2], -second[:, 4])[:, None]


def _rotate(points: Tensor, angle: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y], -1)


def _clip(points: Tensor, axis: int, bound: Tensor) -> Tensor:
    """Clip closed polygons (P, K, 2) to |coordinate| <= bound; results have 3 K corners."""
    steps = points.roll(-1, 1) - points
    at, step = points[..., axis], steps[..., axis]
    crossings = torch.stack([(-bound - at) / step, (bound - at) / step], -1)
    # Edges along the bounds cross nowhere, and others only between their ends.
    crossings = crossings.nan_to_num(0.0, 1.0, 0.0).clamp(0, 1).sort(-1).values
    cut = points[:, :, None] + crossings[..., None] * steps[:, :, None]
    points = torch.cat([points[:, :, None], cut], 2).flatten(1, 2)
    clamped = torch.minimum(torch.maximum(points[..., axis], -bound), bound)
    return torch.stack([clamped, points[..., 1]] if axis == 0 else [points[..., 0], clamped], -1)

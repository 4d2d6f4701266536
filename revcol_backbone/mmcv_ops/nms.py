"""Non-maximum suppression: ``nms``, ``softnms`` and ``nms_match`` of ``mmcv._ext``."""

import numpy as np
import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from revcol_backbone.mmcv_ops.precision import at_least_float32

NAIVE, LINEAR, GAUSSIAN = range(3)  # mmcv's numbers for the methods of soft-NMS


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy NMS: keeps boxes in score order, drops those that overlap a kept one too much.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: Boxes with a larger IoU than this are dropped.
        offset: Added to widths and heights: 0, or 1 for inclusive pixel coordinates.

    Returns:
        (K,) int64 indices of the kept boxes, best score first.
    """
    # mmcv compares in float32, which decides ties at thresholds such as 0.7.
    iou_threshold = float(np.float32(iou_threshold))
    boxes, scores = at_least_float32(boxes, scores)
    if offset == 0:
        return torch.ops.torchvision.nms(boxes, scores, iou_threshold)
    # torchvision has no offset, and moving x2 and y2 by it would round differently.
    groups = _suppress(_to_numpy(boxes), _to_numpy(scores), offset, iou_threshold, np.greater)
    return torch.tensor([kept for kept, _ in groups], dtype=torch.long, device=boxes.device)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., 2017): lowers the scores of overlapping boxes.

    Ties are broken as in mmcv: a dropped box gives its place to the last one.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2, on the CPU.
        scores: (N,).
        dets: (N, 5); its first K rows receive the boxes and their lowered scores.
        iou_threshold: Overlap from which the naive and linear methods lower a score.
        sigma: Width of the Gaussian method.
        min_score: Boxes whose lowered score falls below this are dropped.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: Added to widths and heights, 0 or 1.

    Returns:
        (K,) int64 indices of the kept boxes, best score first.
    """
    boxes, scores = at_least_float32(boxes, scores)
    # Columns lie in memory one after the other: every step runs over whole columns.
    rows = np.asfortranarray(np.column_stack([_to_numpy(boxes), _to_numpy(scores)]))
    indices = np.arange(len(rows))
    best = 0
    while best < len(rows):
        highest = best + rows[best:, 4].argmax()
        for array in (rows, indices):
            array[np.array([best, highest])] = array[np.array([highest, best])]
        rest = best + 1
        overlap = _overlap(rows[best, :4], rows[rest:, :4], offset)
        rows[rest:, 4] *= _decay(overlap, iou_threshold, sigma, method)
        dropped = rows[rest:, 4] < min_score
        if dropped.any():
            rows, indices = (_compact(array, rest, dropped) for array in (rows, indices))
        best = rest
    dets[: len(rows)] = torch.from_numpy(rows).to(dets)
    return torch.from_numpy(indices)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes by the box that suppresses them in greedy NMS.

    Args:
        dets: (N, 5) boxes and scores.
        iou_threshold: Boxes with at least this IoU are suppressed.

    Returns:
        One group of indices per kept box, itself first, in score order.
    """
    (dets,) = at_least_float32(dets)
    boxes, scores = _to_numpy(dets[:, :4]), _to_numpy(dets[:, 4])
    groups = _suppress(boxes, scores, 0, np.float32(iou_threshold), np.greater_equal)
    return [[kept, *suppressed] for kept, suppressed in groups]


def _suppress(
    boxes: np.ndarray,
    scores: np.ndarray,
    offset: int,
    iou_threshold: float | np.float32,
    exceeds: np.ufunc,
) -> list[tuple[int, list[int]]]:
    remaining = np.argsort(-scores, kind='stable')
    groups = []
    while len(remaining):
        kept, remaining = remaining[0], remaining[1:]
        suppressed = exceeds(_overlap(boxes[kept], boxes[remaining], offset), iou_threshold)
        groups.append((int(kept), remaining[suppressed].tolist()))
        remaining = remaining[~suppressed]
    return groups


def _overlap(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """IoU of one box with (N, 4) others; 0, not NaN, where both are empty."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0]) + offset
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1]) + offset
    intersection = width.clip(min=0) * height.clip(min=0)
    union = _area(box, offset) + _area(others, offset) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)


def _area(boxes: np.ndarray, offset: int) -> np.ndarray:
    x1, y1, x2, y2 = boxes.T
    return (x2 - x1 + offset) * (y2 - y1 + offset)


def _decay(overlap: np.ndarray, iou_threshold: float, sigma: float, method: int) -> np.ndarray:
    if method == GAUSSIAN:
        return np.exp(-(overlap**2) / sigma)
    lowered = 1 - overlap if method == LINEAR else np.zeros_like(overlap)
    return np.where(overlap >= np.float32(iou_threshold), lowered, np.ones_like(overlap))


def _compact(array: np.ndarray, start: int, dropped: np.ndarray) -> np.ndarray:
    """Fill each hole, in order, with the last row that is not dropped and not in place yet."""
    kept = int((~dropped).sum())
    holes = start + np.flatnonzero(dropped[:kept])
    array[holes] = array[start + kept + np.flatnonzero(~dropped[kept:])[::-1]]
    return array[: start + kept]


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()

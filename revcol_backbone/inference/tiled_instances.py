"""Merging the detections of overlapping tiles.

Two detections of one class from two tiles are the same object if their boxes coincide inside the
area that both tiles cover. Unlike the overlap of whole boxes, this also recognizes the part of an
object that a tile border cuts off. If a tile sees the object whole, its detection is kept; if none
does, the parts are merged and get the highest of their scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData

from revcol_backbone.inference.tiling import Window

SAME_OBJECT_IOU = 0.5  # inside the shared rectangle
CUT_MARGIN = 0.02  # of a tile's side; a box nearer to its border counts as cut off


def merge_instances(
    tiles: Sequence[InstanceData], windows: Sequence[Window], height: int, width: int
) -> InstanceData:
    """Merge the detections of the tiles of one image.

    Args:
        tiles: ``bboxes`` (N, 4), ``scores``, ``labels`` and optionally ``masks`` (N, h, w), each in
            the coordinates of its tile.
        windows: Positions of the tiles.
        height: Height of the image.
        width: Width of the image.

    Returns:
        The same fields in the coordinates of the image, sorted by score.
    """
    parts = _Parts(tiles, windows, height, width)
    groups = sorted(parts.group(), key=lambda group: -parts.score_of(group))
    boxes = [parts.box_of(group) for group in groups]
    merged = InstanceData(
        bboxes=torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)),
        scores=torch.tensor([parts.score_of(group) for group in groups]),
        labels=torch.tensor([int(parts.labels[group[0]]) for group in groups], dtype=torch.long),
    )
    if all('masks' in tile for tile in tiles):
        masks = torch.zeros(len(groups), height, width, dtype=torch.bool)
        for mask, group in zip(masks, groups, strict=True):
            for index in group:
                top, left, crop = parts.masks[index]
                mask[top : top + crop.shape[0], left : left + crop.shape[1]] |= crop
        merged.masks = masks
    return merged


class _Parts:
    """The detections of all tiles in the coordinates of the image."""

    def __init__(
        self, tiles: Sequence[InstanceData], windows: Sequence[Window], height: int, width: int
    ) -> None:
        corners = np.array([[w.left, w.top, w.right, w.bottom] for w in windows], np.float64)
        self.tile = np.repeat(np.arange(len(tiles)), [len(tile) for tile in tiles])
        self.windows = corners[self.tile]
        local = np.concatenate([tile.bboxes.numpy() for tile in tiles]).reshape(-1, 4)
        self.boxes = local + np.tile(self.windows[:, :2], 2)
        self.scores = np.concatenate([tile.scores.numpy() for tile in tiles])
        self.labels = np.concatenate([tile.labels.numpy() for tile in tiles])
        self.is_cut = self._touches_inner_border(height, width)
        self.masks = [
            _crop(mask, window)
            for tile, window in zip(tiles, windows, strict=True)
            for mask in tile.get('masks', ())
        ]

    def group(self) -> list[list[int]]:
        """Group the indices of the parts of each object; of one seen whole, keep the best alone."""
        is_free = np.ones(len(self.boxes), bool)
        groups = []
        for seed in np.lexsort((-self.scores, self.is_cut)):  # whole ones first
            if is_free[seed]:
                is_free[seed] = False
                gather = self._take_parts if self.is_cut[seed] else self._take_whole
                groups.append(gather(int(seed), is_free))
        return groups

    def _take_whole(self, seed: int, is_free: np.ndarray) -> list[int]:
        is_free &= ~self._is_same(seed)
        return [seed]

    def _take_parts(self, seed: int, is_free: np.ndarray) -> list[int]:
        """Follow an object from tile to tile; each tile adds at most one part."""
        group = [seed]
        for member in group:
            found = np.flatnonzero(is_free & self._is_same(member))
            for index in found[np.argsort(-self.scores[found], kind='stable')]:
                if self.tile[index] not in self.tile[group]:
                    group.append(int(index))
                    is_free[index] = False
        return group

    def box_of(self, group: list[int]) -> np.ndarray:
        """Return the box around all members."""
        boxes = self.boxes[group]
        return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])

    def score_of(self, group: list[int]) -> float:
        """Return the highest score of all members."""
        return float(self.scores[group].max())

    def _is_same(self, index: int) -> np.ndarray:
        """Find the detections of other tiles that coincide with one where both tiles see."""
        shared = _intersect(self.windows, self.windows[index])
        ours = _intersect(shared, self.boxes[index])
        theirs = _intersect(shared, self.boxes)
        common = _area(_intersect(ours, theirs))
        union = _area(ours) + _area(theirs) - common
        coincides = common >= SAME_OBJECT_IOU * np.maximum(union, np.finfo(float).tiny)
        is_other = (self.tile != self.tile[index]) & (self.labels == self.labels[index])
        return coincides & is_other

    def _touches_inner_border(self, height: int, width: int) -> np.ndarray:
        sides = np.tile(self.windows[:, 2:] - self.windows[:, :2], 2)
        is_near = np.abs(self.boxes - self.windows) <= CUT_MARGIN * sides
        is_inner = self.windows != np.array([0, 0, width, height])
        return (is_near & is_inner).any(1)


def _crop(mask: torch.Tensor, window: Window) -> tuple[int, int, torch.Tensor]:
    """Return top and left in the image, and the part of the mask that is not empty."""
    rows, columns = torch.nonzero(mask.any(1)), torch.nonzero(mask.any(0))
    if not len(rows):
        return window.top, window.left, mask[:0, :0].clone()
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return window.top + top, window.left + left, crop.to(torch.bool, copy=True)


def _intersect(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    corners = np.maximum(boxes[..., :2], others[..., :2])
    return np.concatenate([corners, np.minimum(boxes[..., 2:], others[..., 2:])], -1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)

"""Cutting an image that is larger than a model expects into tiles, and merging label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from revcol_backbone.revcol import SMALLEST_INPUT


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; right and bottom are excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)


@dataclass(frozen=True)
class Tiling:
    """Square tiles, the last ones shifted back into the image as in mmseg's sliding test.

    Args:
        size: Side of a tile in pixels, at least 32. A smaller image is one tile.
        overlap: Minimum number of pixels that neighbors share. If it is as large as most objects,
            some tile sees each of them whole.

    Raises:
        ValueError: A number is out of range.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size < SMALLEST_INPUT:
            raise ValueError(
                f'a tile of {self.size} pixels is not allowed; give at least {SMALLEST_INPUT}.'
            )
        if not 0 <= self.overlap < self.size:
            raise ValueError(
                f'tiles of {self.size} pixels cannot overlap by {self.overlap}; give 0 to '
                f'{self.size - 1}.'
            )

    def bands(self, height: int, width: int) -> Iterator[list[Window]]:
        """Yield the tiles of an image in bands from top to bottom, each from left to right."""
        for top, bottom in self._intervals(height):
            yield [Window(left, top, right, bottom) for left, right in self._intervals(width)]

    def _intervals(self, length: int) -> list[tuple[int, int]]:
        if length <= self.size:
            return [(0, length)]
        last = length - self.size
        starts = [*range(0, last, self.size - self.overlap), last]
        return [(start, start + self.size) for start in starts]


def merge_labels(
    bands: Iterable[Sequence[Window]],
    score: Callable[[Sequence[Window]], Iterable[Tensor]],
    decide: Callable[[Tensor], Tensor],
    height: int,
    width: int,
) -> Tensor:
    """Average the scores of each pixel over the tiles that cover it, as mmseg's sliding test does.

    Only the scores of one band are kept, so memory grows with the width of the image and the
    size of the tiles, but not with the height of the image.

    Args:
        bands: Tiles from top to bottom.
        score: Returns the scores (C, h, w) of each tile of a band.
        decide: Returns the labels (h, w) of mean scores (C, h, w).
        height: Height of the image.
        width: Width of the image.

    Returns:
        The label map (height, width), int64, on the CPU.
    """
    labels = torch.zeros(height, width, dtype=torch.long)
    sums, counts = torch.zeros(1, 0, width), torch.zeros(0, width)  # no rows yet
    start = 0  # the row of the image where `sums` begins
    for windows in bands:
        top, bottom = windows[0].top, windows[0].bottom
        if sums.numel():
            labels[start:top] = decide(sums[:, : top - start] / counts[: top - start])
        for window, scores in zip(windows, score(windows), strict=True):
            if not sums.numel() or start != top:
                sums, counts = _move_down(sums, counts, top - start, scores, bottom - top, width)
                start = top
            sums[:, :, window.columns] += scores.cpu()
            counts[:, window.columns] += 1
    labels[start:] = decide(sums / counts)
    return labels


def _move_down(
    sums: Tensor, counts: Tensor, rows: int, scores: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Start the sums of a band ``rows`` lower with what the last band added to its top."""
    moved = torch.zeros(scores.shape[0], height, width)
    moved_counts = torch.zeros(height, width)
    kept = sums.shape[1] - rows
    moved[:, :kept] = sums[:, rows:]
    moved_counts[:kept] = counts[rows:]
    return moved, moved_counts

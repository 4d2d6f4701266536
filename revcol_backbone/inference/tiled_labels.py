"""One label map from the class scores of overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from revcol_backbone.inference.tiling import Window


def merge_labels(
    bands: Iterable[Sequence[Window]],
    score: Callable[[Sequence[Window]], Iterable[Tensor]],
    decide: Callable[[Tensor], Tensor],
    height: int,
    width: int,
) -> Tensor:
    """Average the scores of every pixel over the tiles that saw it, as mmseg's sliding test does.

    Only the scores of one band are kept, so the memory that is needed grows with the width of the
    picture and the size of the tiles, not with the picture's height.

    Args:
        bands: Tiles from top to bottom.
        score: Gives for the tiles of a band their scores (C, h, w).
        decide: Gives for mean scores (C, h, w) the labels (h, w).
        height: Of the picture.
        width: Of the picture.

    Returns:
        The label map (height, width), int64, on the CPU.
    """
    labels = torch.zeros(height, width, dtype=torch.long)
    sums = counts = None
    start = 0  # the row of the picture where `sums` begins
    for windows in bands:
        top, bottom = windows[0].top, windows[0].bottom
        if sums is not None:
            labels[start:top] = decide(sums[:, : top - start] / counts[: top - start])
        for window, scores in zip(windows, score(windows), strict=True):
            if sums is None or start != top:
                sums, counts = _move_down(sums, counts, top - start, scores, bottom - top, width)
                start = top
            sums[:, :, window.columns] += scores.cpu()
            counts[:, window.columns] += 1
    labels[start:] = decide(sums / counts)
    return labels


def _move_down(
    sums: Tensor | None, counts: Tensor | None, rows: int, scores: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Scores of a band that begins ``rows`` lower, with what the last band gave to its top."""
    moved = torch.zeros(scores.shape[0], height, width)
    moved_counts = torch.zeros(height, width)
    if sums is not None:
        kept = sums.shape[1] - rows
        moved[:, :kept] = sums[:, rows:]
        moved_counts[:kept] = counts[rows:]
    return moved, moved_counts

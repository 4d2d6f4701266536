"""Scores of tiles are averaged as if those of the whole picture were kept."""

import pytest
import torch

from revcol_backbone.inference.tiled_labels import merge_labels
from revcol_backbone.inference.tiling import Tiling


@pytest.mark.parametrize(
    ('height', 'width', 'size', 'overlap'),
    [(50, 60, 64, 16), (64, 200, 64, 16), (200, 64, 64, 0), (150, 130, 64, 40), (65, 65, 64, 63)],
)
def test_labels_are_those_of_the_mean_scores(height, width, size, overlap):
    torch.manual_seed(0)
    bands = list(Tiling(size, overlap).bands(height, width))
    scores = {
        window: torch.rand(3, window.bottom - window.top, window.right - window.left)
        for band in bands
        for window in band
    }
    sums, counts = torch.zeros(3, height, width), torch.zeros(height, width)
    for window, score in scores.items():
        sums[:, window.rows, window.columns] += score
        counts[window.rows, window.columns] += 1
    labels = merge_labels(
        bands, lambda band: [scores[w] for w in band], lambda mean: mean.argmax(0), height, width
    )
    assert labels.dtype == torch.int64
    assert torch.equal(labels, (sums / counts).argmax(0))

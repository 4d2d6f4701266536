"""Tiles cover an image, and all have the size that was asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from revcol_backbone.inference.tiling import Tiling, Window, merge_labels


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(32, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_every_pixel_is_in_a_tile_and_neighbors_share_enough(height, width, size, share):
    overlap = int(share * size)
    if size - overlap < 8:
        overlap = size - 8  # or there are very many tiles
    seen = np.zeros((height, width), int)
    bands = list(Tiling(size, overlap).bands(height, width))
    for band in bands:
        for window in band:
            seen[window.rows, window.columns] += 1
            assert window.bottom - window.top == min(size, height)
            assert window.right - window.left == min(size, width)
        assert len({window.top for window in band}) == 1
        for left, right in zip(band, band[1:], strict=False):
            assert left.left < right.left <= left.right - overlap
    for upper, lower in zip(bands, bands[1:], strict=False):
        assert upper[0].top < lower[0].top <= upper[0].bottom - overlap
    assert seen.min() >= 1


def test_a_image_that_is_not_larger_is_one_tile():
    assert list(Tiling(64, 16).bands(64, 40)) == [[Window(0, 0, 40, 64)]]


@pytest.mark.parametrize(
    ('size', 'overlap', 'words'),
    [
        (31, 0, 'a tile of 31 pixels is not allowed; give at least 32'),
        (64, 64, 'tiles of 64 pixels cannot overlap by 64; give 0 to 63'),
        (64, -1, 'cannot overlap by -1'),
    ],
)
def test_tiles_that_cannot_be_are_an_error(size, overlap, words):
    with pytest.raises(ValueError, match=words):
        Tiling(size, overlap)


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

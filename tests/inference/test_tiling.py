"""Tiles cover a picture, and all have the size that was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from revcol_backbone.inference.tiling import Tiling, Window


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(32, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_every_pixel_is_in_a_tile_and_neighbours_share_enough(height, width, size, share):
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


def test_a_picture_that_is_not_larger_is_one_tile():
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

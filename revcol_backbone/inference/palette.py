"""A colour for each class that is told apart from its neighbours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np

GOLDEN_RATIO = 0.618033988749895


def complete_palette(palette: Any, number: int) -> np.ndarray:
    """The data set's colours, or, where it has none, hues that stay far apart.

    Args:
        palette: Colours (RGB, 0 to 255), or anything else where there are none.
        number: How many are needed.

    Returns:
        uint8 of shape (number, 3), RGB.
    """
    if isinstance(palette, Sequence) and not isinstance(palette, str) and len(palette) >= number:
        return np.asarray(palette[:number], np.uint8).reshape(number, 3)
    colours = [
        colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1, (0.85, 0.6)[index // 8 % 2], 0.95)
        for index in range(number)
    ]
    return np.rint(255 * np.asarray(colours)).astype(np.uint8).reshape(number, 3)

"""A colour for each class that is told apart from its neighbours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np

GOLDEN_RATIO = 0.618033988749895
BACKGROUND = (90, 90, 90)


def make_palette(classes: Sequence[str], given: Any = None) -> np.ndarray:
    """The data set's colours, or, where it has none, hues that stay far apart.

    Args:
        classes: Names of the classes; a background is grey.
        given: Colours (RGB, 0 to 255), or anything else where there are none.

    Returns:
        uint8 of shape (C, 3), RGB.
    """
    number = len(classes)
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) >= number:
        return np.asarray(given[:number], np.uint8).reshape(number, 3)
    hues = (index * GOLDEN_RATIO % 1 for index in range(number))
    strengths = (0.85 if index // 8 % 2 == 0 else 0.5 for index in range(number))
    colours = [
        BACKGROUND
        if name == 'background'
        else [255 * value for value in colorsys.hsv_to_rgb(hue, strength, 0.95)]
        for name, hue, strength in zip(classes, hues, strengths, strict=True)
    ]
    return np.rint(colours).astype(np.uint8).reshape(number, 3)

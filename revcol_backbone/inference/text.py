"""Text in pictures, in sizes that follow the picture's."""

from __future__ import annotations

import functools
from pathlib import Path

import matplotlib
from PIL import ImageFont

SMALLEST_TEXT, LARGEST_TEXT = 9, 40  # pixels
TEXT_SHARE = 1 / 40  # of a picture's mean side


def mean_side(height: int, width: int) -> float:
    """Side of the square with the area of a picture."""
    return (height * width) ** 0.5


def text_size(height: int, width: int) -> int:
    """The size of text, in pixels, that can be read in a picture of this size."""
    size = round(TEXT_SHARE * mean_side(height, width))
    return max(SMALLEST_TEXT, min(size, LARGEST_TEXT))


@functools.cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, which has the letters of most European languages."""
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    return ImageFont.truetype(str(path), size)


def text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out from a colour (RGB; luma of ITU-R BT.601)."""
    red, green, blue = background
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    return (0, 0, 0) if is_light else (255, 255, 255)

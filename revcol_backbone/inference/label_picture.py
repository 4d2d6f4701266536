"""A picture under the colours of its label map, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from revcol_backbone.inference.text import font_size, load_font

OPACITY = 0.55
LEGEND_OPACITY = 0.75


def draw_labels(
    image: np.ndarray, labels: np.ndarray, classes: Sequence[str], palette: np.ndarray
) -> np.ndarray:
    """Draw a label map onto a copy of its picture.

    Args:
        image: BGR, uint8 of shape (H, W, 3).
        labels: The label of each pixel, (H, W).
        classes: Name of each class.
        palette: Colour of each class, (C, 3), RGB.

    Returns:
        BGR, uint8 of shape (H, W, 3).
    """
    rgb = image[:, :, ::-1]
    picture = np.rint((1 - OPACITY) * rgb + OPACITY * palette[labels]).astype(np.uint8)
    legend = _draw_legend(labels, classes, palette)
    rows = slice(0, legend.shape[0])
    columns = slice(0, legend.shape[1])
    under = picture[rows, columns]
    legend = legend[: under.shape[0], : under.shape[1]]
    picture[rows, columns] = LEGEND_OPACITY * legend + (1 - LEGEND_OPACITY) * under
    return np.ascontiguousarray(picture[:, :, ::-1])


def _draw_legend(labels: np.ndarray, classes: Sequence[str], palette: np.ndarray) -> np.ndarray:
    size = font_size(*labels.shape)
    font = load_font(size)
    row = size + 3
    present, counts = np.unique(labels, return_counts=True)
    order = present[np.argsort(-counts, kind='stable')]
    width = int(max(font.getlength(classes[label]) for label in order)) + row + 6
    canvas = Image.new('RGB', (width, row * len(order) + 4), (255, 255, 255))
    pen = ImageDraw.Draw(canvas)
    for index, label in enumerate(order):
        top = 2 + index * row
        pen.rectangle((2, top + 1, row - 2, top + row - 3), fill=tuple(map(int, palette[label])))
        pen.text((row + 2, top + row / 2), classes[label], fill=(0, 0, 0), font=font, anchor='lm')
    return np.asarray(canvas)

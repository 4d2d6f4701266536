"""A picture under the colours of its label map, and the legend to them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from revcol_backbone.inference.text import load_font, text_size

OPACITY = 0.55
LEGEND_OPACITY = 0.8  # of a legend that lies on the picture
LEGEND_ROWS = 8  # that a legend beside a picture has room for at least
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def draw_labels(
    image: np.ndarray, labels: np.ndarray, palette: np.ndarray, opacity: float = OPACITY
) -> np.ndarray:
    """Draw a label map onto a copy of its picture.

    Args:
        image: BGR, uint8 of shape (H, W, 3).
        labels: The label of each pixel, (H, W).
        palette: Colour of each class, (C, 3), RGB.
        opacity: Of the colours over the picture, 0 to 1.

    Returns:
        BGR, uint8 of shape (H, W, 3).
    """
    return cv2.addWeighted(image, 1 - opacity, palette[:, ::-1][labels], opacity, 0)


class Legend:
    """The names and colours of the classes in a label map, the largest first.

    Args:
        classes: Name of each class.
        palette: Colour of each class, (C, 3), RGB.
    """

    def __init__(self, classes: Sequence[str], palette: np.ndarray) -> None:
        self.classes = classes
        self.palette = palette

    def on(self, picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """A copy of a picture with the legend in its upper left corner, on half of its height.

        A picture that is too low for a line of text has none.
        """
        height, width = labels.shape
        result = picture.copy()
        if height // 2 < _row_height(text_size(height, width)):
            return result
        legend = self._draw(labels, height // 2)[:, :width]
        corner = result[: legend.shape[0], : legend.shape[1]]
        corner[:] = np.rint(LEGEND_OPACITY * legend + (1 - LEGEND_OPACITY) * corner)
        return result

    def beside(self, picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """A picture with the legend to its right, where it covers nothing.

        Pictures of one size give results of one size, as the frames of a video have to be.
        """
        height, width = labels.shape
        row = _row_height(text_size(height, width))
        legend = self._draw(labels, max(height, LEGEND_ROWS * row))
        canvas = np.full((max(height, LEGEND_ROWS * row), width + legend.shape[1], 3), 255)
        canvas[:height, :width] = picture
        canvas[: legend.shape[0], width:] = legend
        return canvas.astype(np.uint8)

    def _draw(self, labels: np.ndarray, room: int) -> np.ndarray:
        """The legend as BGR, of at most ``room`` rows of pixels."""
        pixels = np.bincount(labels.ravel(), minlength=len(self.classes))
        present = np.flatnonzero(pixels)
        order = present[np.argsort(-pixels[present], kind='stable')].tolist()
        size = text_size(*labels.shape)
        row = _row_height(size)
        font = load_font(size)
        if len(order) * row > room:
            order = order[: max(room // row - 1, 0)]
        lines = [(self.classes[label], tuple(self.palette[label].tolist())) for label in order]
        if len(order) < len(present):
            lines.append((f'{len(present) - len(order)} more', WHITE))
        widest = max(font.getlength(name) for name in (*self.classes, '100 more'))
        gap = max(2, row // 6)
        canvas = Image.new('RGB', (round(widest) + row + 4 * gap, len(lines) * row), WHITE)
        pen = ImageDraw.Draw(canvas)
        for index, (name, colour) in enumerate(lines):
            top = index * row
            pen.rectangle((gap, top + gap // 2, row, top + row - gap // 2 - 1), fill=colour)
            pen.text((row + gap + 2, top + row / 2), name, fill=BLACK, font=font, anchor='lm')
        return np.asarray(canvas)[:, :, ::-1]


def _row_height(size: int) -> int:
    return round(1.4 * size)

"""Predictions drawn onto images: boxes, masks, label maps, names and legends."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
WHITE, BLACK, BACKGROUND = (255, 255, 255), (0, 0, 0), (90, 90, 90)
GOLDEN_RATIO = 0.618033988749895
MASK_OPACITY = 0.45
LABEL_OPACITY = 0.55
LEGEND_OPACITY = 0.8  # of a legend on top of the image
LEGEND_ROWS = 8  # minimum height, in rows, of a legend beside the image
MIN_TEXT, MAX_TEXT = 9, 40  # pixels
# Relative to the square root of the image's area.
TEXT_SIZE, LINE_WIDTH = 1 / 40, 1 / 300


def make_palette(classes: Sequence[str], given: Any = None) -> np.ndarray:
    """Return a color for each class: those of the data set, or hues that are easy to tell apart.

    Args:
        classes: Class names; one named ``background`` is gray.
        given: Colors of the data set (RGB, 0 to 255). Ignored unless it has one for each class.

    Returns:
        uint8 of shape (C, 3), RGB.
    """
    number = len(classes)
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) >= number:
        return np.asarray(given[:number], np.uint8).reshape(number, 3)
    hues = (index * GOLDEN_RATIO % 1 for index in range(number))
    saturations = (0.85 if index // 8 % 2 == 0 else 0.5 for index in range(number))
    colors = [
        BACKGROUND
        if name == 'background'
        else [255 * value for value in colorsys.hsv_to_rgb(hue, saturation, 0.95)]
        for name, hue, saturation in zip(classes, hues, saturations, strict=True)
    ]
    return np.rint(colors).astype(np.uint8).reshape(number, 3)


def draw_instances(
    image: np.ndarray, instances: InstanceData, classes: Sequence[str], palette: np.ndarray
) -> np.ndarray:
    """Draw instances onto a copy of an image, the highest score on top.

    Args:
        image: BGR, uint8 of shape (H, W, 3).
        instances: Arrays ``bboxes`` (N, 4), ``scores``, ``labels`` and optionally ``masks``
            (N, H, W).
        classes: Class names.
        palette: Class colors, (C, 3), RGB.

    Returns:
        BGR, uint8 of shape (H, W, 3).
    """
    instances = instances[np.argsort(instances.scores, kind='stable')]
    colors = [tuple(color) for color in palette[instances.labels].tolist()]
    rgb = np.ascontiguousarray(image[:, :, ::-1])
    for mask, color in zip(instances.get('masks', ()), colors, strict=False):
        _tint(rgb, mask.astype(bool), color)
    canvas = Image.fromarray(rgb)
    pen = ImageDraw.Draw(canvas)
    line = max(1, round(LINE_WIDTH * _mean_side(*image.shape[:2])))
    for box, color in zip(instances.bboxes.tolist(), colors, strict=True):
        pen.rectangle(_clip(box, canvas.size), outline=color, width=line)
    tags = _Tags(pen, _text_size(*image.shape[:2]), canvas.size)
    for box, label, score, color in zip(
        instances.bboxes.tolist(), instances.labels, instances.scores, colors, strict=True
    ):
        tags.draw(f'{classes[label]}: {score:.0%}', box, color)
    return np.ascontiguousarray(np.asarray(canvas)[:, :, ::-1])


def draw_labels(
    image: np.ndarray, labels: np.ndarray, palette: np.ndarray, opacity: float = LABEL_OPACITY
) -> np.ndarray:
    """Blend a label map with a copy of its image.

    Args:
        image: BGR, uint8 of shape (H, W, 3).
        labels: Label of each pixel, (H, W).
        palette: Class colors, (C, 3), RGB.
        opacity: Of the class colors, 0 to 1.

    Returns:
        BGR, uint8 of shape (H, W, 3).
    """
    return cv2.addWeighted(image, 1 - opacity, palette[:, ::-1][labels], opacity, 0)


class Legend:
    """Names and colors of the classes in a label map, sorted by area.

    Args:
        classes: Class names.
        palette: Class colors, (C, 3), RGB.
    """

    def __init__(self, classes: Sequence[str], palette: np.ndarray) -> None:
        self.classes = classes
        self.palette = palette

    def on(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Draw the legend into the upper left corner of a copy of an image.

        It takes at most half of the height; an image too low for one line of text has none.
        """
        height, width = labels.shape
        result = image.copy()
        if height // 2 < _row_height(_text_size(height, width)):
            return result
        legend = self._draw(labels, height // 2)[:, :width]
        corner = result[: legend.shape[0], : legend.shape[1]]
        corner[:] = np.rint(LEGEND_OPACITY * legend + (1 - LEGEND_OPACITY) * corner)
        return result

    def beside(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return an image extended by the legend on its right.

        Images of one size give results of one size, as the frames of a video need.
        """
        height, width = labels.shape
        room = max(height, LEGEND_ROWS * _row_height(_text_size(height, width)))
        legend = self._draw(labels, room)
        canvas = np.full((room, width + legend.shape[1], 3), 255, np.uint8)
        canvas[:height, :width] = image
        canvas[: legend.shape[0], width:] = legend
        return canvas

    def _draw(self, labels: np.ndarray, room: int) -> np.ndarray:
        """Draw the legend as BGR with at most ``room`` rows of pixels."""
        pixels = np.bincount(labels.ravel(), minlength=len(self.classes))
        present = np.flatnonzero(pixels)
        order = present[np.argsort(-pixels[present], kind='stable')].tolist()
        size = _text_size(*labels.shape)
        row = _row_height(size)
        font = _load_font(size)
        if len(order) * row > room:
            order = order[: max(room // row - 1, 0)]
        lines = [(self.classes[label], tuple(self.palette[label].tolist())) for label in order]
        if len(order) < len(present):
            lines.append((f'{len(present) - len(order)} more', WHITE))
        widest = max(font.getlength(name) for name in (*self.classes, '100 more'))
        gap = max(2, row // 6)
        canvas = Image.new('RGB', (round(widest) + row + 4 * gap, len(lines) * row), WHITE)
        pen = ImageDraw.Draw(canvas)
        for index, (name, color) in enumerate(lines):
            top = index * row
            pen.rectangle((gap, top + gap // 2, row, top + row - gap // 2 - 1), fill=color)
            pen.text((row + gap + 2, top + row / 2), name, fill=BLACK, font=font, anchor='lm')
        return np.asarray(canvas)[:, :, ::-1]


class _Tags:
    """Writes the name of a box above its top left corner, or below it where there is no room."""

    def __init__(self, pen: ImageDraw.ImageDraw, text_size: int, size: tuple[int, int]) -> None:
        self.pen = pen
        self.font = _load_font(text_size)
        self.padding = max(1, text_size // 6)
        self.height = text_size + 2 * self.padding
        self.size = size

    def draw(self, text: str, box: Sequence[float], color: Color) -> None:
        width = round(self.pen.textlength(text, font=self.font)) + 2 * self.padding
        left = max(0, min(round(box[0]), self.size[0] - width))
        above, below = round(box[1]) - self.height, round(box[3])
        if above >= 0:
            top = above
        elif below + self.height <= self.size[1]:
            top = below
        else:
            top = max(0, round(box[1]))
        self.pen.rectangle((left, top, left + width - 1, top + self.height - 1), fill=color)
        self.pen.text(
            (left + self.padding, top + self.height / 2),
            text,
            fill=_text_color(color),
            font=self.font,
            anchor='lm',
        )


def _tint(image: np.ndarray, mask: np.ndarray, color: Color) -> None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    under, inside = image[part], mask[part]
    colored = np.full_like(under, color)
    under[inside] = cv2.addWeighted(under, 1 - MASK_OPACITY, colored, MASK_OPACITY, 0)[inside]


def _clip(box: Sequence[float], size: tuple[int, int]) -> tuple[int, ...]:
    """Round a box to pixels inside an image of (width, height); its sides stay in order."""
    left, top = (min(max(round(box[axis]), 0), size[axis] - 1) for axis in (0, 1))
    right, bottom = (min(max(round(box[2 + axis]) - 1, 0), size[axis] - 1) for axis in (0, 1))
    return left, top, max(left, right), max(top, bottom)


def _mean_side(height: int, width: int) -> float:
    return (height * width) ** 0.5


def _text_size(height: int, width: int) -> int:
    return max(MIN_TEXT, min(round(TEXT_SIZE * _mean_side(height, width)), MAX_TEXT))


def _row_height(text_size: int) -> int:
    return round(1.4 * text_size)


@functools.cache
def _load_font(size: int) -> ImageFont.FreeTypeFont:
    """Load the font that comes with matplotlib and covers most European languages."""
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    return ImageFont.truetype(str(path), size)


def _text_color(background: Color) -> Color:
    """Choose black or white by the luma (ITU-R BT.601) of an RGB color."""
    red, green, blue = background
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    return BLACK if is_light else WHITE

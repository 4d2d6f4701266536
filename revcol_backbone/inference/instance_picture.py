"""A picture with the detected boxes, masks, names and scores."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw

from revcol_backbone.inference.text import load_font, mean_side, text_colour, text_size

Colour = tuple[int, int, int]
MASK_OPACITY = 0.45
LINE_SHARE = 1 / 300  # of a picture's mean side


def draw_instances(
    image: np.ndarray, instances: InstanceData, classes: Sequence[str], palette: np.ndarray
) -> np.ndarray:
    """Draw instances onto a copy of their picture, the surest on top.

    Args:
        image: BGR, uint8 of shape (H, W, 3).
        instances: Arrays ``bboxes`` (N, 4), ``scores``, ``labels``, perhaps ``masks`` (N, H, W).
        classes: Name of each class.
        palette: Colour of each class, (C, 3), RGB.

    Returns:
        BGR, uint8 of shape (H, W, 3).
    """
    instances = instances[np.argsort(instances.scores, kind='stable')]
    colours = [tuple(colour) for colour in palette[instances.labels].tolist()]
    picture = np.ascontiguousarray(image[:, :, ::-1])
    for mask, colour in zip(instances.get('masks', ()), colours, strict=False):
        _tint(picture, mask.astype(bool), colour)
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    line = max(1, round(LINE_SHARE * mean_side(*image.shape[:2])))
    for box, colour in zip(instances.bboxes.tolist(), colours, strict=True):
        pen.rectangle(_inside(box, canvas.size), outline=colour, width=line)
    tags = _Tags(pen, text_size(*image.shape[:2]), canvas.size)
    for box, label, score, colour in zip(
        instances.bboxes.tolist(), instances.labels, instances.scores, colours, strict=True
    ):
        tags.draw(f'{classes[label]}: {score:.0%}', box, colour)
    return np.ascontiguousarray(np.asarray(canvas)[:, :, ::-1])


def _tint(picture: np.ndarray, mask: np.ndarray, colour: Colour) -> None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    under, inside = picture[part], mask[part]
    coloured = np.full_like(under, colour)
    under[inside] = cv2.addWeighted(under, 1 - MASK_OPACITY, coloured, MASK_OPACITY, 0)[inside]


def _inside(box: Sequence[float], size: tuple[int, int]) -> tuple[int, ...]:
    """Whole pixels of a box within a picture of (width, height); its sides stay in order."""
    left, top = (min(max(round(box[axis]), 0), size[axis] - 1) for axis in (0, 1))
    right, bottom = (min(max(round(box[2 + axis]) - 1, 0), size[axis] - 1) for axis in (0, 1))
    return left, top, max(left, right), max(top, bottom)


class _Tags:
    """Draws the name of a box above its top left corner, or below where there is no room."""

    def __init__(self, pen: ImageDraw.ImageDraw, text_height: int, size: tuple[int, int]) -> None:
        self.pen = pen
        self.font = load_font(text_height)
        self.padding = max(1, text_height // 6)
        self.height = text_height + 2 * self.padding
        self.size = size

    def draw(self, text: str, box: Sequence[float], colour: Colour) -> None:
        width = round(self.pen.textlength(text, font=self.font)) + 2 * self.padding
        left = max(0, min(round(box[0]), self.size[0] - width))
        above, below = round(box[1]) - self.height, round(box[3])
        if above >= 0:
            top = above
        elif below + self.height <= self.size[1]:
            top = below
        else:
            top = max(0, round(box[1]))
        self.pen.rectangle((left, top, left + width - 1, top + self.height - 1), fill=colour)
        self.pen.text(
            (left + self.padding, top + self.height / 2),
            text,
            fill=text_colour(colour),
            font=self.font,
            anchor='lm',
        )

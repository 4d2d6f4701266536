"""A picture with the detected boxes, masks, names and scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw

from revcol_backbone.inference.text import font_size, load_font, text_colour

MASK_OPACITY = 0.45
LINE_SHARE = 1 / 300  # of the mean side


def draw_instances(
    image: np.ndarray, instances: InstanceData, classes: Sequence[str], palette: np.ndarray
) -> np.ndarray:
    """Draw instances onto a copy of their picture, the surest last and so on top.

    Args:
        image: BGR, uint8 of shape (H, W, 3).
        instances: Arrays ``bboxes`` (N, 4), ``scores``, ``labels``, perhaps ``masks`` (N, H, W).
        classes: Name of each class.
        palette: Colour of each class, (C, 3), RGB.

    Returns:
        BGR, uint8 of shape (H, W, 3).
    """
    order = np.argsort(instances.scores, kind='stable')
    picture = image[:, :, ::-1].copy()
    if 'masks' in instances:
        for index in order:
            mask = instances.masks[index].astype(bool)
            colour = palette[instances.labels[index]]
            blended = (1 - MASK_OPACITY) * picture[mask] + MASK_OPACITY * colour
            picture[mask] = np.rint(blended).astype(np.uint8)
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    height, width = image.shape[:2]
    line = max(1, round((height * width) ** 0.5 * LINE_SHARE))
    size = font_size(height, width)
    for index in order:
        colour = tuple(map(int, palette[instances.labels[index]]))
        box = instances.bboxes[index].tolist()
        pen.rectangle(box, outline=colour, width=line)
    for index in order:
        colour = tuple(map(int, palette[instances.labels[index]]))
        text = f'{classes[instances.labels[index]]} {100 * instances.scores[index]:.0f}%'
        left, top = instances.bboxes[index][:2].tolist()
        _draw_tag(pen, text, (left, top), colour, size, (width, height))
    return np.ascontiguousarray(np.asarray(canvas)[:, :, ::-1])


def _draw_tag(pen, text, corner, colour, size, limits) -> None:
    font = load_font(size)
    width = pen.textlength(text, font=font) + 4
    height = size + 3
    left = min(max(corner[0], 0), max(limits[0] - width, 0))
    top = corner[1] - height if corner[1] >= height else corner[1]
    top = min(max(top, 0), max(limits[1] - height, 0))
    pen.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    pen.text((left + 2, top + height / 2), text, fill=text_colour(colour), font=font, anchor='lm')

"""Reading a sample of image files."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from revcol_backbone.dataset_check.report import Report

Item = TypeVar('Item')


def choose(items: Sequence[Item], number: int) -> list[Item]:
    """Choose ``number`` of ``items`` at random, the same ones every time."""
    return random.Random(0).sample(items, min(number, len(items)))


def read_image(path: Path, report: Report) -> Image.Image | None:
    """Decode a whole image file; one that cannot be decoded is reported."""
    again = 'delete it and unpack or download it again'
    try:
        if path.stat().st_size == 0:
            report.wrong(f'{path} is an empty file', again)
            return None
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken files
        report.wrong(f'{path} is truncated or no image ({error})', again)
        return None


def read_label_map(path: Path, report: Report) -> np.ndarray | None:
    """Decode a label map of shape (H, W); one with colours in the place of labels is reported."""
    image = read_image(path, report)
    if image is None:
        return None
    labels = np.asarray(image)
    if labels.ndim != 2:
        report.wrong(
            f'{path} has {labels.shape[2]} channels, so it is no label map but a picture of one, '
            'or annotations of another data set',
            'put the label maps of one channel there',
        )
        return None
    return labels

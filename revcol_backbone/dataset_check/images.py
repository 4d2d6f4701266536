"""The image files of a data set: a sample is decoded, and of every file the header is read."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.dataset_check.report import Report

MIN_SIDE = 8  # pixels
MAX_ASPECT_RATIO = 100
ORIENTATION = 0x0112  # tag of EXIF
UPRIGHT, TRANSPOSED = 1, (5, 6, 7, 8)

Item = TypeVar('Item')
Size = tuple[int, int]


def choose(items: Sequence[Item], number: int) -> list[Item]:
    """Choose ``number`` of ``items`` at random, the same ones every time."""
    return random.Random(0).sample(items, min(number, len(items)))


def read_image(path: Path, report: Report) -> Image.Image | None:
    """Decode a whole image file; one that cannot be decoded is reported."""
    again = 'delete it, and unpack or download it again'
    try:
        if path.stat().st_size == 0:
            report.add_problem(f'{path} is an empty file', again)
            return None
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return image
    except Exception as error:  # a broken or crafted file can raise anything
        report.add_problem(f'{path} is truncated or not an image ({error})', again)
        return None


def read_label_map(path: Path, report: Report) -> np.ndarray | None:
    """Decode a label map of shape (H, W); one with colors instead of labels is reported."""
    image = read_image(path, report)
    if image is None:
        return None
    labels = np.asarray(image)
    if labels.ndim != 2:
        report.add_problem(
            f'{path} has {labels.shape[2]} channels, so it is not a label map but an image of one, '
            'or annotations of another data set',
            'replace it by a label map with one channel',
        )
        return None
    return labels


def check_headers(files: Mapping[Path, Size | None], report: Report) -> None:
    """Check the sizes and EXIF orientations of image files without decoding them.

    Training rotates an image by its EXIF orientation, but not its annotations. They fit only if
    they were made on the rotated image.

    Args:
        files: Width and height that the annotations assume for each file; ``None`` if unknown.
        report: Where to add problems.
    """
    turned, extreme = [], []
    for path, listed in files.items():
        header = read_header(path)
        if header is None:  # reported where it is decoded
            continue
        stored, orientation = header
        if is_extreme(stored):
            extreme.append(f'{path.name} with {stored[0]} x {stored[1]}')
        if orientation != UPRIGHT:
            shown = stored[::-1] if orientation in TRANSPOSED else stored
            if shown == stored or listed != shown:
                turned.append(path.name)
    if turned:
        report.add_problem(
            f'{len(turned):,} images have an EXIF orientation ({list_first(turned)}): training '
            'rotates or flips them, but not their annotations',
            'store them upright without EXIF, or set '
            "`color_type='color_ignore_orientation'` in `LoadImageFromFile` if the annotations fit "
            'the stored pixels',
        )
    report_extreme(extreme, report)


def is_extreme(size: Size) -> bool:
    """Whether an image is too small or too elongated for resizing and cropping."""
    return min(size) < MIN_SIDE or max(size) > MAX_ASPECT_RATIO * min(size)


def report_extreme(described: Iterable[str], report: Report) -> None:
    """Report images that are too small or too elongated, if there are any."""
    described = list(described)
    if described:
        report.add_problem(
            f'{len(described):,} images have a side below {MIN_SIDE} pixels or an aspect ratio '
            f'above {MAX_ASPECT_RATIO} ({list_first(described)}), which training cannot resize',
            'remove or crop them',
        )


def read_header(path: Path) -> tuple[Size, int] | None:
    """Return width and height as stored, and the EXIF orientation; ``None`` if it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(path) as image:
                orientation = image.getexif().get(ORIENTATION, UPRIGHT)
                return image.size, orientation if orientation in range(1, 9) else UPRIGHT
    except Exception:  # a broken or crafted file can raise anything
        return None

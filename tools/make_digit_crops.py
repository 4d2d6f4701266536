"""Cut single digits out of scenes like those of make_digits_dataset.py, for classification.

The training crops come from training scenes that data/digits does not have: their digits and
photographs are those of its training split, so that nothing of its validation split is seen.
The crops for validation come from validation scenes. Written as an image folder::

    data/digit_crops/{train,val}/{0,...,9}/000000_0.jpg
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from digit_scenes import DigitScenes, Scene, Settings

from revcol_backbone.cli import report_errors

MARGIN = 1.25  # side of a crop over the longer side of its digit
FIRST_SCENE = 100_000  # scenes from here on are not in data/digits
JPEG_QUALITY = 95


def write_crops(out: Path, scenes: dict[str, int], size: int) -> bool:
    """Write the crops of so many scenes of each split, unless ``out`` is there already.

    Args:
        out: The folder to make, whole or not at all.
        scenes: Number of scenes of ``'train'`` and ``'val'``.
        size: Height and width of the crops in pixels.

    Returns:
        Whether it was written.
    """
    if out.exists():
        return False
    dataset = DigitScenes(Settings())
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as temporary:
        whole = Path(temporary) / out.name
        for split, count in scenes.items():
            for index in range(FIRST_SCENE, FIRST_SCENE + count):
                for number, (digit, crop) in enumerate(crops(dataset.scene(split, index))):
                    folder = whole / split / str(digit)
                    folder.mkdir(parents=True, exist_ok=True)
                    path = folder / f'{index - FIRST_SCENE:06d}_{number}.jpg'
                    resized = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
                    bgr = cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)
                    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                        raise OSError(f'{path} could not be written: check the space of its disk.')
        os.replace(whole, out)
    return True


def crops(scene: Scene) -> Iterator[tuple[int, np.ndarray]]:
    """Every digit of a scene with a square (S, S, 3) around it, moved to lie inside."""
    sides = np.array(scene.image.shape[:2])
    for instance in scene.instances:
        occupied = np.argwhere(instance.mask)
        low, high = occupied.min(axis=0), occupied.max(axis=0) + 1
        side = min(int(MARGIN * (high - low).max()), *sides)
        top, left = np.clip((low + high - side) // 2, 0, sides - side)
        yield instance.digit, scene.image[top : top + side, left : left + side]


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Make the crops from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('data/digit_crops'), help='folder to make')
    parser.add_argument('--train', type=int, default=2000, help='training scenes')
    parser.add_argument('--val', type=int, default=200, help='validation scenes')
    parser.add_argument('--size', type=int, default=64, help='side of a crop in pixels')
    args = parser.parse_args(arguments)
    written = write_crops(args.out, {'train': args.train, 'val': args.val}, args.size)
    print(f'{args.out}: {"made" if written else "there already"}')


if __name__ == '__main__':
    sys.exit(main())

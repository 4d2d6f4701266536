"""A small stand-in of deepforest's wheel, for tools/make_trees_dataset.py."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np

from tools.make_trees_dataset import FOLDER, SCENES

# Height and width of the largest scene and of the others.
SIZES = {'2019_YELL_2_528000_4978000_image_crop2': (200, 150)}
OTHER_SIZE = (80, 90)


def make_wheel(path: Path) -> Path:
    """Write every scene with two crowns: one at the top left corner, one in the middle."""
    with zipfile.ZipFile(path, 'w') as archive:
        for scene in (*SCENES['train'], *SCENES['val']):
            height, width = SIZES.get(scene, OTHER_SIZE)
            pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
            archive.writestr(f'{FOLDER}/{scene}.png', cv2.imencode('.png', pixels)[1].tobytes())
            boxes = ''.join(
                f'<object><name>Tree</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
                f'<xmax>{x + 20}</xmax><ymax>{y + 10}</ymax></bndbox></object>'
                for x, y in ((0, 0), (width // 2, height // 2))
            )
            archive.writestr(f'{FOLDER}/{scene}.xml', f'<annotation>{boxes}</annotation>')
    return path

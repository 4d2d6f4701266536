"""Small image folders of coloured noise, one colour for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ('blue', 'green', 'red')


def make_image_folder(root: Path, images: int = 2, size: int = 40) -> Path:
    """Write ``train`` and ``val`` with a subfolder for each class."""
    generator = np.random.default_rng(0)
    for split in ('train', 'val'):
        for channel, name in enumerate(reversed(CLASSES)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(images):
                pixels = generator.integers(0, 120, (size, size + 8, 3), np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / f'{name}{index}.png')
    return root

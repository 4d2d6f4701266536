"""A data set that nothing in the project was made for: shapes, as objects and as label maps."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

# Ids with gaps and out of alphabetical order, as in data sets that have grown.
CATEGORIES = {7: 'square', 3: 'disc', 12: 'bar'}
CLASSES = ('disc', 'square', 'bar')  # in the order of their ids
SIZES = ((96, 128), (80, 80))  # height, width


def make_shapes(root: Path, images: int = 2, masks: bool = True) -> Path:
    """Write ``{train,val}.json`` in COCO format and the folders of images ``train`` and ``val``."""
    for split in ('train', 'val'):
        (root / split).mkdir(parents=True)
        content = {
            'images': [],
            'annotations': [],
            'categories': [{'id': key, 'name': name} for key, name in CATEGORIES.items()],
        }
        for index in range(images):
            image, objects, _ = _draw(index)
            height, width = image.shape[:2]
            name = f'{index}.jpg'
            cv2.imwrite(str(root / split / name), image)
            content['images'].append(
                {'id': index + 10, 'file_name': name, 'height': height, 'width': width}
            )
            for category, (x, y, w, h) in objects:
                entry = {
                    'id': len(content['annotations']) + 1,
                    'image_id': index + 10,
                    'category_id': category,
                    'bbox': [x, y, w, h],
                    'area': w * h,
                    'iscrowd': 0,
                }
                if masks:
                    entry['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
                content['annotations'].append(entry)
        (root / f'{split}.json').write_text(json.dumps(content))
    return root


def make_shape_maps(root: Path, images: int = 2) -> Path:
    """Write images and label maps, 0 for the background and 1 to 3 for :data:`CLASSES`."""
    for split in ('train', 'val'):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True)
        for index in range(images):
            image, _, labels = _draw(index)
            cv2.imwrite(str(root / 'images' / split / f'{index}.jpg'), image)
            cv2.imwrite(str(root / 'annotations' / split / f'{index}.png'), labels)
    return root


def _draw(index: int):
    """An image, its (category, (x, y, width, height)) and its label map."""
    height, width = SIZES[index % len(SIZES)]
    generator = np.random.default_rng(index)
    image = generator.integers(100, 140, (height, width, 3)).astype(np.uint8)
    labels = np.zeros((height, width), np.uint8)
    objects = []
    for number, category in enumerate(sorted(CATEGORIES)):
        w, h = (36, 12) if CATEGORIES[category] == 'bar' else (24, 24)
        x, y = 4 + 30 * (number % 2), 4 + 34 * (number // 2)
        shape = np.zeros((height, width), np.uint8)
        if CATEGORIES[category] == 'disc':
            cv2.circle(shape, (x + w // 2, y + h // 2), w // 2, 1, -1)
        else:
            shape[y : y + h, x : x + w] = 1
        image[shape > 0] = (30 + 90 * number, 220 - 90 * number, 60)
        labels[shape > 0] = number + 1
        objects.append((category, (x, y, w, h)))
    return image, objects, labels

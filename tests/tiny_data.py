"""Small data sets of colored boxes, in the trees and formats of COCO and of ADE20K."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('red_box', 'blue_box')
COLORS = ((40, 40, 220), (220, 60, 40))  # BGR
SIZE = 96


def make_coco(root: Path, images: int = 4) -> Path:
    """Write ``train.json``, ``val.json`` and the folders ``train`` and ``val`` into ``root``."""
    generator = np.random.default_rng(0)
    for split in ('train', 'val'):
        (root / split).mkdir(parents=True)
        content = {
            'images': [],
            'annotations': [],
            'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)],
        }
        for index in range(images):
            image, boxes, _ = _draw(generator)
            name = f'{index:06d}.png'
            cv2.imwrite(str(root / split / name), image)
            content['images'].append(
                {'id': index, 'file_name': name, 'height': SIZE, 'width': SIZE}
            )
            for label, (x, y, w, h) in boxes:
                content['annotations'].append(
                    {
                        'id': len(content['annotations']) + 1,
                        'image_id': index,
                        'category_id': label + 1,
                        'bbox': [x, y, w, h],
                        'area': w * h,
                        'iscrowd': 0,
                        'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    }
                )
        (root / f'{split}.json').write_text(json.dumps(content))
    return root


def make_ade20k(root: Path, images: int = 4) -> Path:
    """Write ADE20K's tree into ``root``, with its labels 1 (red) and 2 (blue); 0 is ignored."""
    generator = np.random.default_rng(0)
    for split in ('training', 'validation'):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True)
        for index in range(images):
            image, _, labels = _draw(generator)
            cv2.imwrite(str(root / f'images/{split}/{index:06d}.jpg'), image)
            cv2.imwrite(str(root / f'annotations/{split}/{index:06d}.png'), labels)
    return root


def _draw(generator: np.random.Generator):
    """One image, its (label, (x, y, width, height)) and its label map."""
    image = generator.integers(90, 160, (SIZE, SIZE, 3)).astype(np.uint8)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    boxes = []
    for label, color in enumerate(COLORS):
        w, h = (int(side) for side in generator.integers(SIZE // 3, SIZE // 2, 2))
        x = int(generator.integers(0, SIZE // 2 - w + 1)) + label * SIZE // 2
        y = int(generator.integers(0, SIZE - h + 1))
        image[y : y + h, x : x + w] = color
        labels[y : y + h, x : x + w] = label + 1
        boxes.append((label, (x, y, w, h)))
    return image, boxes, labels

"""Small data sets in the trees, names and category ids of COCO, Objects365, ADE20K, Cityscapes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from revcol_backbone.dataset_check import check_dataset

COCO_ID_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
WIDTH, HEIGHT = 48, 40


def coco_categories() -> list[dict]:
    """The 80 categories with the ids of the published annotation files."""
    from mmdet.datasets import CocoDataset

    ids = [number for number in range(1, 91) if number not in COCO_ID_GAPS]
    names = CocoDataset.METAINFO['classes']
    return [{'id': number, 'name': name} for number, name in zip(ids, names, strict=True)]


def objects365_categories() -> list[dict]:
    """The 365 categories with their ids."""
    from mmdet.datasets import Objects365V2Dataset

    names = Objects365V2Dataset.METAINFO['classes']
    return [{'id': number, 'name': name} for number, name in enumerate(names, start=1)]


def make_coco_tree(root: Path, train: int = 3, val: int = 2) -> Path:
    """Write ``annotations/instances_*2017.json`` and the image folders."""
    for split, count, first in (('train2017', train, 1), ('val2017', val, 1001)):
        names = {number: f'{number:012d}.jpg' for number in range(first, first + count)}
        for name in names.values():
            write_image(root / split / name)
        write_annotations(root / f'annotations/instances_{split}.json', names, coco_categories())
    return root


def make_objects365_tree(root: Path, train: int = 3, val: int = 2) -> Path:
    """Write ``annotations/zhiyuan_objv2_*.json`` and the image folders with their patches."""
    for split, count, first in (('train', train, 1), ('val', val, 1001)):
        names = {
            number: f'images/v1/patch{number % 2}/objects365_v1_{number:08d}.jpg'
            for number in range(first, first + count)
        }
        for name in names.values():
            write_image(root / split / name.removeprefix('images/v1/'))
        path = root / f'annotations/zhiyuan_objv2_{split}.json'
        write_annotations(path, names, objects365_categories())
    return root


def make_ade20k_tree(root: Path, train: int = 3, val: int = 2) -> Path:
    """Write ``images/`` and ``annotations/`` with labels 0 to 150."""
    for split, short, count in (('training', 'train', train), ('validation', 'val', val)):
        for number in range(1, count + 1):
            name = f'ADE_{short}_{number:08d}'
            write_image(root / 'images' / split / f'{name}.jpg')
            write_labels(root / 'annotations' / split / f'{name}.png', (0, 1, 7, 150))
    return root


def make_cityscapes_tree(root: Path, train: int = 3, val: int = 2) -> Path:
    """Write ``leftImg8bit/`` and ``gtFine/`` with training labels and the raw ones."""
    for split, city, count in (('train', 'aachen', train), ('val', 'munster', val)):
        for number in range(count):
            name = f'{city}_{number:06d}_000019'
            write_image(root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png')
            labels = root / 'gtFine' / split / city
            write_labels(labels / f'{name}_gtFine_labelTrainIds.png', (0, 18, 255))
            write_labels(labels / f'{name}_gtFine_labelIds.png', (0, 7, 33))
    return root


def write_image(path: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Write an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_labels(
    path: Path, values: tuple[int, ...], width: int = WIDTH, height: int = HEIGHT
) -> None:
    """Write a label map with these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, np.uint8), (height, width))).save(path)


def write_annotations(path: Path, names: dict[int, str], categories: list[dict]) -> None:
    """Write an annotation file with one box of the last category in each image."""
    x, y, width, height = 4, 5, 20, 10
    content = {
        'images': [
            {'id': number, 'file_name': name, 'width': WIDTH, 'height': HEIGHT}
            for number, name in names.items()
        ],
        'annotations': [
            {
                'id': number,
                'image_id': number,
                'category_id': categories[-1]['id'],
                'bbox': [x, y, width, height],
                'area': width * height,
                'iscrowd': 0,
                'segmentation': [[x, y, x + width, y, x + width, y + height, x, y + height]],
            }
            for number in names
        ],
        'categories': categories,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


TREES = {
    'coco': make_coco_tree,
    'objects365': make_objects365_tree,
    'ade20k': make_ade20k_tree,
    'cityscapes': make_cityscapes_tree,
}


def problems_of(
    name: str,
    root: Path,
    splits: Sequence[str] = ('train', 'val'),
    counts: Sequence[int] = (3, 2),
    sample: int = 100,
) -> list[str]:
    """What the check finds wrong with a tree of this file."""
    return check_dataset(name, root, splits, sample, counts).problems


def only_problem(name: str, root: Path, **options) -> str:
    """The one thing that the check finds wrong."""
    (problem,) = problems_of(name, root, **options)
    return problem


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path: Path) -> None:
    """Keep the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

"""The check of a data set with COCO-format annotations: COCO, Objects365."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.dataset_check.images import choose, read_image
from revcol_backbone.dataset_check.layouts import InstanceLayout
from revcol_backbone.dataset_check.report import Report

ENTRIES = ('images', 'annotations', 'categories')


def check_instances(
    layout: InstanceLayout, root: Path, split: str, count: int, sample: int, report: Report
) -> None:
    """Check one split; what is found and what is wrong goes into ``report``."""
    parts = layout.splits[split]
    path, folder = root / parts.annotations, root / parts.images
    content = _read_annotations(layout, path, report)
    if not folder.is_dir() or not any(folder.iterdir()):
        state = 'is empty' if folder.is_dir() else 'is missing'
        report.wrong(f'{folder} {state}', f'download {layout.source} and unpack it in {root}')
        return
    if content is None:
        return
    try:
        _check_content(layout, root, split, count, sample, content, report)
    except (KeyError, TypeError, ValueError) as error:
        report.wrong(
            f'{path} is not in the COCO format: an entry lacks or misuses {error}',
            f'put the annotations of {layout.title} there ({layout.source})',
        )


def _check_content(
    layout: InstanceLayout,
    root: Path,
    split: str,
    count: int,
    sample: int,
    content: dict[str, list[dict[str, Any]]],
    report: Report,
) -> None:
    path, folder = root / layout.splits[split].annotations, root / layout.splits[split].images
    if not _check_categories(layout, content, path, report):
        return
    images = {image['id']: image for image in content['images']}
    _check_count(layout, split, len(images), count, path, report)
    present = _check_files(layout, split, list(images.values()), path, folder, report)
    boxes = _check_ids(content, images, path, report)
    chosen = choose(present, sample)
    for image in chosen:
        file = folder / layout.file_name(image['file_name'])
        _check_image(image, boxes[image['id']], file, path, report)
    report.findings.append(
        f'{split}: {len(present):,} images, {len(content["annotations"]):,} annotations, '
        f'{len(content["categories"])} categories, {len(chosen):,} images decoded'
    )


def _read_annotations(
    layout: InstanceLayout, path: Path, report: Report
) -> dict[str, list[dict[str, Any]]] | None:
    get = f'download {layout.source} and unpack it so that this file exists'
    if not path.is_file():
        report.wrong(f'{path} is missing', get)
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        report.wrong(f'{path} is truncated or no JSON file ({error})', f'delete it and {get}')
        return None
    entries = content if isinstance(content, dict) else {}
    missing = [entry for entry in ENTRIES if not isinstance(entries.get(entry), list)]
    if missing:
        report.wrong(
            f'{path} has no {" and no ".join(missing)}, so it holds no instance annotations (those '
            'of test images and captions do not)',
            get,
        )
        return None
    return content


def _check_categories(
    layout: InstanceLayout, content: dict[str, Any], path: Path, report: Report
) -> bool:
    expected = layout.categories()
    found = {category['id']: category['name'] for category in content['categories']}
    put = f'put the annotations of {layout.title} there ({layout.source})'
    if set(found.values()) != set(expected.values()):
        strange = [name for name in found.values() if name not in expected.values()]
        missing = [name for name in expected.values() if name not in found.values()]
        report.wrong(
            f'{path} holds annotations of another data set: it has {len(found)} categories, '
            f'{layout.title} has {len(expected)}; strange are {list_first(strange)}, missing are '
            f'{list_first(missing)}',
            put,
        )
        return False
    if found != expected:
        strange = [
            f'{number} is {name}' for number, name in found.items() if expected.get(number) != name
        ]
        report.wrong(
            f'{path} has the categories of {layout.title} under other ids ({list_first(strange)}), '
            'so that results could not be compared',
            put,
        )
        return False
    return True


def _check_count(
    layout: InstanceLayout, split: str, found: int, count: int, path: Path, report: Report
) -> None:
    if found == count:
        return
    others = [other for other, parts in layout.splits.items() if parts.count == found]
    if others and others != [split]:
        report.wrong(
            f'{path} lists {found:,} images, which is the {others[0]} split of {layout.title}',
            f'put the annotations of the {split} split ({count:,} images) there',
        )
    else:
        report.wrong(
            f'{path} lists {found:,} images where {layout.title} has {count:,}',
            f'unpack {layout.source} again, or give the numbers of your own split by --counts',
        )


def _check_files(
    layout: InstanceLayout,
    split: str,
    images: list[dict[str, Any]],
    path: Path,
    folder: Path,
    report: Report,
) -> list[dict[str, Any]]:
    """Return the listed images that are there."""
    names = defaultdict(set)
    for image in images:
        parent, name = os.path.split(layout.file_name(image['file_name']))
        names[parent].add(name)
    there = {
        os.path.join(parent, name)
        for parent in names
        if (folder / parent).is_dir()
        for name in os.listdir(folder / parent)
    }
    absent = layout.splits[split].absent
    present = [image for image in images if layout.file_name(image['file_name']) in there]
    missing = [
        name
        for image in images
        if (name := layout.file_name(image['file_name'])) not in there and name not in absent
    ]
    if not present:
        report.wrong(
            f'{folder} holds none of the images that {path} lists ({list_first(missing)}): it is '
            'of another split or data set, or unpacked one folder too deep',
            f'put the images of the {split} split of {layout.title} there',
        )
    elif missing:
        report.wrong(
            f'{folder} lacks {len(missing):,} of the images that {path} lists: '
            f'{list_first(missing)}',
            f'unpack {layout.source} again',
        )
    return present


def _check_ids(
    content: dict[str, Any], images: dict[int, Any], path: Path, report: Report
) -> dict[int, list[Any]]:
    """Return the boxes of each image."""
    categories = {category['id'] for category in content['categories']}
    boxes = defaultdict(list)
    unknown = Counter()
    for annotation in content['annotations']:
        if annotation['category_id'] not in categories:
            unknown['category id', annotation['category_id']] += 1
        if annotation['image_id'] not in images:
            unknown['image id', annotation['image_id']] += 1
        boxes[annotation['image_id']].append(annotation['bbox'])
    if unknown:
        named = list_first(f'{kind} {number}' for kind, number in unknown)
        report.wrong(
            f'{path} has {sum(unknown.values()):,} annotations of images or categories that it '
            f'does not list ({named}): it was put together from several files, or edited',
            'put the published file there',
        )
    return boxes


def _check_image(
    image: dict[str, Any], boxes: list[Any], file: Path, path: Path, report: Report
) -> None:
    picture = read_image(file, report)
    if picture is None:
        return
    size = (image['width'], image['height'])
    if picture.size != size:
        report.wrong(
            f'{file} is {picture.size[0]} x {picture.size[1]} pixels, but {path} has it as '
            f'{size[0]} x {size[1]}: the image was resized, or is of another data set',
            'unpack the original image again',
        )
        return
    for x, y, width, height in boxes:
        if (
            width < 0
            or height < 0
            or x >= size[0]
            or y >= size[1]
            or x + width < 0
            or y + height < 0
        ):
            report.wrong(
                f'{path} has the box {[x, y, width, height]} outside of {file} '
                f'({size[0]} x {size[1]} pixels)',
                'put the published file there; boxes are x, y, width, height in pixels',
            )
            return

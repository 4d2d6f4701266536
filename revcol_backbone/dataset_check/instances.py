"""The check of data sets with COCO-format annotations: published ones, and any other."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.dataset_check.coco_file import check_content, read_annotations
from revcol_backbone.dataset_check.images import (
    check_headers,
    choose,
    is_extreme,
    read_image,
    report_extreme,
)
from revcol_backbone.dataset_check.layouts import InstanceLayout
from revcol_backbone.dataset_check.report import Report

Json = dict[str, Any]


def check_coco_format(path: Path, folder: Path, sample: int, report: Report) -> None:
    """Check any COCO-format data set.

    Args:
        path: The annotation file.
        folder: The folder that its file names are relative to.
        sample: Number of images to decode; of all others only the header is read.
        report: Where to add findings and problems.
    """
    content = read_annotations(path, 'give a COCO-format annotation file', report)
    if content is None:
        return
    if not folder.is_dir():
        report.add_problem(f'{folder} is not a folder', 'give the folder of the images')
        return
    check_content(content, path, report)
    present, missing = _find_files(content['images'], folder, str)
    _report_missing(present, missing, path, folder, 'put the images there', report)
    sizes = {folder / image['file_name']: (image['width'], image['height']) for image in present}
    check_headers(sizes, report)
    chosen = choose(present, sample)
    for image in chosen:
        _check_image(image, folder / image['file_name'], path, report)
    annotated = {annotation['image_id'] for annotation in content['annotations']}
    kind = 'masks' if content['annotations'] and _all_masks(content) else 'boxes'
    report.findings.append(
        f'{path.name}: {len(present):,} images ({len(annotated):,} of them annotated), '
        f'{len(content["annotations"]):,} annotations with {kind}, '
        f'{len(content["categories"])} categories, {len(chosen):,} images decoded'
    )


def check_instances(
    layout: InstanceLayout, root: Path, split: str, count: int, sample: int, report: Report
) -> None:
    """Check one split of a published data set; findings and problems go into ``report``."""
    parts = layout.splits[split]
    path, folder = root / parts.annotations, root / parts.images
    get = f'download {layout.source} and unpack it so that this file exists'
    content = read_annotations(path, get, report)
    if not folder.is_dir() or not any(folder.iterdir()):
        state = 'is empty' if folder.is_dir() else 'is missing'
        report.add_problem(f'{folder} {state}', f'download {layout.source} and unpack it in {root}')
        return
    if content is None or not _check_categories(layout, content, path, report):
        return
    check_content(content, path, report)
    images = content['images']
    _check_count(layout, split, len(images), count, path, report)
    present, missing = _find_files(images, folder, layout.file_name)
    missing = [name for name in missing if name not in parts.absent]
    fix = f'put the images of the {split} split of {layout.title} there ({layout.source})'
    _report_missing(present, missing, path, folder, fix, report)
    report_extreme(
        (
            f'{image["file_name"]} with {image["width"]} x {image["height"]}'
            for image in present
            if is_extreme((image['width'], image['height']))
        ),
        report,
    )
    chosen = choose(present, sample)
    files = {image['id']: folder / layout.file_name(image['file_name']) for image in chosen}
    check_headers({files[i['id']]: (i['width'], i['height']) for i in chosen}, report)
    for image in chosen:
        _check_image(image, files[image['id']], path, report)
    report.findings.append(
        f'{split}: {len(present):,} images, {len(content["annotations"]):,} annotations, '
        f'{len(content["categories"])} categories, {len(chosen):,} images decoded'
    )


def _check_categories(
    layout: InstanceLayout, content: dict[str, Any], path: Path, report: Report
) -> bool:
    expected = layout.categories()
    found = {category['id']: category['name'] for category in content['categories']}
    put = f'put the annotations of {layout.title} there ({layout.source})'
    if set(found.values()) != set(expected.values()):
        strange = [name for name in found.values() if name not in expected.values()]
        missing = [name for name in expected.values() if name not in found.values()]
        report.add_problem(
            f'{path} has annotations of another data set: it has {len(found)} categories, '
            f'{layout.title} has {len(expected)}; strange are {list_first(strange)}, missing are '
            f'{list_first(missing)}',
            put,
        )
        return False
    if found != expected:
        strange = [
            f'{number} is {name}' for number, name in found.items() if expected.get(number) != name
        ]
        report.add_problem(
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
        report.add_problem(
            f'{path} lists {found:,} images, which is the {others[0]} split of {layout.title}',
            f'put the annotations of the {split} split ({count:,} images) there',
        )
    else:
        report.add_problem(
            f'{path} lists {found:,} images where {layout.title} has {count:,}',
            f'unpack {layout.source} again, or give the numbers of your own split by --counts',
        )


def _find_files(
    images: list[Json], folder: Path, name_of: Callable[[str], str]
) -> tuple[list[Json], list[str]]:
    """Return the listed images that are there, and the names of those that are not."""
    names = defaultdict(set)
    for image in images:
        parent, name = os.path.split(name_of(image['file_name']))
        names[parent].add(name)
    there = {
        os.path.join(parent, name)
        for parent in names
        if (folder / parent).is_dir()
        for name in os.listdir(folder / parent)
    }
    present = [image for image in images if name_of(image['file_name']) in there]
    missing = [n for image in images if (n := name_of(image['file_name'])) not in there]
    return present, missing


def _report_missing(
    present: list[Json], missing: list[str], path: Path, folder: Path, fix: str, report: Report
) -> None:
    if not present:
        report.add_problem(
            f'{folder} has none of the images that {path} lists ({list_first(missing)}): it is '
            'of another split or data set, or unpacked one folder too deep',
            fix,
        )
    elif missing:
        report.add_problem(
            f'{folder} lacks {len(missing):,} of the images that {path} lists: '
            f'{list_first(missing)}',
            fix,
        )


def _check_image(image: Json, file: Path, path: Path, report: Report) -> None:
    decoded = read_image(file, report)
    size = (image['width'], image['height'])
    # Rotated ones are reported by their header.
    if decoded is not None and sorted(decoded.size) != sorted(size):
        report.add_problem(
            f'{file} is {decoded.size[0]} x {decoded.size[1]} pixels, but {path} has it as '
            f'{size[0]} x {size[1]}: the image was resized, or is of another data set',
            'restore the original image, or correct the file',
        )


def _all_masks(content: dict[str, list[Json]]) -> bool:
    return all(annotation.get('segmentation') for annotation in content['annotations'])

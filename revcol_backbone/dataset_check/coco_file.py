"""The content of a COCO-format annotation file: what training and evaluation would stumble over."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, TypeGuard

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.dataset_check.report import Report

ENTRIES = ('images', 'annotations', 'categories')
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# mmdet and pycocotools read all of them; `iscrowd` is needed by the evaluation.
NEEDED = {
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'),
    'categories': ('id', 'name'),
}
PIXEL = 1.0  # by which boxes may exceed their image
CORNERS_SHARE = 0.1  # of boxes beyond their image, from which they look like corners
POINTS = 6  # numbers in a polygon of three points

Json = dict[str, Any]


def read_annotations(path: Path, get: str, report: Report) -> dict[str, list[Json]] | None:
    """Read an annotation file whose entries have what the format asks for.

    Args:
        path: The file.
        get: How to get a right one, for messages.
        report: Where to add problems.

    Returns:
        The content; ``None`` if it cannot be used at all, which is reported.
    """
    if not path.is_file():
        report.add_problem(f'{path} is missing', get)
        return None
    data = path.read_bytes()
    if data.startswith(MARKS) or b'\0' in data[:4]:
        report.add_problem(
            f'{path} starts with a byte order mark or is UTF-16, which pycocotools cannot read',
            'save it as UTF-8 without a byte order mark',
        )
        return None
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        report.add_problem(f'{path} is truncated or not a JSON file ({error})', get)
        return None
    entries = content if isinstance(content, dict) else {}
    missing = [entry for entry in ENTRIES if not isinstance(entries.get(entry), list)]
    if missing:
        report.add_problem(
            f'{path} has no {" and no ".join(missing)}, so it has no instance annotations (files '
            'of test images and captions do not)',
            get,
        )
        return None
    return content if _has_needed(content, path, report) else None


def check_content(content: dict[str, list[Json]], path: Path, report: Report) -> None:
    """Check the ids, categories, boxes and masks of all annotations of a file.

    Args:
        content: As returned by :func:`read_annotations`.
        path: The file, for messages.
        report: Where to add problems, one for each kind with their number and the first ones.
    """
    for entry, key in (
        ('images', 'id'),
        ('images', 'file_name'),
        ('annotations', 'id'),
        ('categories', 'id'),
        ('categories', 'name'),
    ):
        counts = Counter(item[key] for item in content[entry])
        twice = [value for value, count in counts.items() if count > 1]
        if twice:
            report.add_problem(
                f'{path} has {len(twice):,} values of `{key}` more than once among its {entry} '
                f'({list_first(twice)})',
                f'give each of the {entry} its own `{key}`',
            )
    annotations = content['annotations']
    if not annotations:
        report.add_problem(f'{path} has no annotations', 'give a file with annotated objects')
        return
    if all(annotation['iscrowd'] == 1 for annotation in annotations):
        report.add_problem(
            f'{path} has only annotations with iscrowd=1, which training ignores',
            'set it to 0 for single objects',
        )
    _check_each(content, path, report)
    _check_masks_of_all(annotations, path, report)


def _has_needed(content: dict[str, list[Json]], path: Path, report: Report) -> bool:
    for entry, keys in NEEDED.items():
        faults: Counter[str] = Counter()
        for item in content[entry]:
            for key in keys:
                if not isinstance(item, Mapping) or not _is_usable(key, item.get(key)):
                    faults[key] += 1
        if faults:
            named = ', '.join(f'{key} of {count:,}' for key, count in faults.items())
            report.add_problem(
                f'{path} is not in the COCO format: {entry} lack or misuse {named}',
                'add them as described at https://cocodataset.org/#format-data',
            )
            return False
    return True


def _is_usable(key: str, value: object) -> bool:
    if key in ('file_name', 'name'):
        return isinstance(value, str) and bool(value)
    if key in ('width', 'height'):
        return _is_number(value) and value >= 1
    if key in ('id', 'image_id', 'category_id'):
        return isinstance(value, (int, str)) and not isinstance(value, bool)
    if key == 'bbox':
        return isinstance(value, list)
    return isinstance(value, (bool, int, float))


def _check_each(content: dict[str, list[Json]], path: Path, report: Report) -> None:
    images = {image['id']: image for image in content['images']}
    categories = {category['id'] for category in content['categories']}
    unknown: Counter = Counter()
    faults: dict[Callable, list] = {check: [] for check in _CHECKS}
    beyond = 0
    for annotation in content['annotations']:
        image = images.get(annotation['image_id'])
        if annotation['category_id'] not in categories:
            unknown['category id', annotation['category_id']] += 1
        if image is None:
            unknown['image id', annotation['image_id']] += 1
            continue
        fault = next((check for check in _CHECKS if check(annotation, image)), None)
        if fault:
            faults[fault].append(annotation['id'])
        elif _is_beyond(annotation['bbox'], image):
            beyond += 1
    if unknown:
        named = list_first(f'{kind} {number}' for kind, number in unknown)
        report.add_problem(
            f'{path} has {sum(unknown.values()):,} annotations of images or categories that it '
            f'does not list ({named}): it was merged from several files, or edited',
            'list them, or remove these annotations',
        )
    for check, ids in faults.items():
        if ids:
            problem, fix = _CHECKS[check]
            report.add_problem(
                f'{path} has {len(ids):,} annotations {problem} (ids {list_first(ids)})', fix
            )
    if beyond > CORNERS_SHARE * len(content['annotations']):
        report.add_problem(
            f'{beyond:,} of {len(content["annotations"]):,} boxes of {path} reach beyond their '
            'image: they look like left, top, right, bottom',
            'write boxes as left, top, width, height in pixels',
        )


def _check_masks_of_all(annotations: list[Json], path: Path, report: Report) -> None:
    without = sum(not annotation.get('segmentation') for annotation in annotations)
    if 0 < without < len(annotations):
        report.add_problem(
            f'{path} has {without:,} annotations without a mask among {len(annotations):,}, which '
            'end training with masks',
            'add `segmentation` to them, or train a config of boxes alone',
        )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _are_numbers(values: Iterable[object]) -> bool:
    return all(map(_is_number, values))


def _has_no_id(annotation: Json, image: Json) -> bool:
    return annotation['id'] == 0


def _has_bad_box(annotation: Json, image: Json) -> bool:
    return len(annotation['bbox']) != 4 or not _are_numbers(annotation['bbox'])


def _has_empty_box(annotation: Json, image: Json) -> bool:
    _, _, width, height = annotation['bbox']
    return width <= 0 or height <= 0


def _is_outside(annotation: Json, image: Json) -> bool:
    x, y, width, height = annotation['bbox']
    return x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0


def _has_bad_area(annotation: Json, image: Json) -> bool:
    return not _is_number(annotation['area']) or annotation['area'] <= 0


def _has_bad_crowd(annotation: Json, image: Json) -> bool:
    return annotation['iscrowd'] not in (0, 1)


def _has_bad_mask(annotation: Json, image: Json) -> bool:
    mask = annotation.get('segmentation')
    if not mask:
        return False
    size = (image['width'], image['height'])
    if isinstance(mask, list):
        return not all(_is_polygon(polygon, size) for polygon in mask)
    return not isinstance(mask, Mapping) or not is_rle(mask, size)


def _is_polygon(points: object, size: tuple[int, int]) -> bool:
    if not isinstance(points, list) or len(points) < POINTS or len(points) % 2:
        return False
    # pycocotools crashes on points far away.
    return _are_numbers(points) and all(
        -side <= value <= 2 * side
        for axis, side in enumerate(size)
        for value in (min(points[axis::2]), max(points[axis::2]))
    )


def is_rle(mask: Mapping[str, Any], size: tuple[int, int]) -> bool:
    """Whether a run-length encoding describes a whole mask of an image of (width, height)."""
    counts = mask.get('counts')
    if mask.get('size') != [size[1], size[0]]:
        return False
    if isinstance(counts, str):
        counts = _decompress(counts)
    if not isinstance(counts, list) or not all(
        isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts
    ):
        return False
    return sum(counts) == size[0] * size[1]


def _decompress(text: str) -> list[int] | None:
    """Decode the counts of COCO's compressed run-length encoding; ``None`` if they are damaged."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return None if shift else counts


def _is_beyond(box: list[float], image: Json) -> bool:
    x, y, width, height = box
    return x + width > image['width'] + PIXEL or y + height > image['height'] + PIXEL


_CHECKS: dict[Callable[[Json, Json], bool], tuple[str, str]] = {
    _has_no_id: ('with the id 0, which the evaluation takes for no match', 'count ids from 1'),
    _has_bad_box: (
        'whose box is not four finite numbers',
        'write boxes as left, top, width, height in pixels',
    ),
    _has_empty_box: (
        'whose box has no width or height',
        'remove them; boxes are left, top, width, height in pixels',
    ),
    _is_outside: (
        'whose box is outside of its image',
        'correct them; boxes are left, top, width, height in pixels',
    ),
    _has_bad_area: (
        'whose area is not a positive number',
        'set it to the pixels of the mask, or to width times height of the box',
    ),
    _has_bad_crowd: ('whose iscrowd is neither 0 nor 1', 'set it to 0 for single objects'),
    _has_bad_mask: (
        'whose mask is neither polygons near the image nor a run-length encoding of its size',
        'convert them again; polygons are lists of at least three points',
    ),
}

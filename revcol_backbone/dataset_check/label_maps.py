"""The check of data sets with a label map for each image: published ones, and any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.dataset_check.images import (
    check_headers,
    choose,
    read_header,
    read_image,
    read_label_map,
)
from revcol_backbone.dataset_check.layouts import LabelMapLayout
from revcol_backbone.dataset_check.report import Report
from revcol_backbone.inference.media import IMAGE_EXTENSIONS

IGNORED = 255  # the label that training ignores


def check_label_maps(
    layout: LabelMapLayout, root: Path, split: str, count: int, sample: int, report: Report
) -> None:
    """Check one split; what is found and what is wrong goes into ``report``."""
    folders = layout.splits[split]
    images = _stems(root, folders.images, layout.image_suffix, layout, report)
    if images is None:
        return
    label_maps = _label_stems(layout, root, split, report)
    if label_maps is None:
        return
    _check_count(layout, root, split, images, count, report)
    _check_pairs(layout, root, split, images, label_maps, report)
    pairs = {
        root / folders.images / (stem + layout.image_suffix): root
        / folders.label_maps
        / (stem + layout.label_suffix)
        for stem in choose(sorted(images & label_maps), sample)
    }
    fix = f'unpack {layout.source} again'
    if layout.conversion:
        fix = layout.conversion.format(root=root)
    decoded = _check_pairs_of(pairs, sample, layout.values, fix, report)
    report.findings.append(
        f'{split}: {len(images):,} images, {len(label_maps):,} label maps, '
        f'{decoded:,} pairs decoded'
    )


def check_label_map_folders(
    images: Path, label_maps: Path, classes: int | None, sample: int, report: Report
) -> None:
    """Check any data set with a label map for each image, paired by their names.

    Args:
        images: Folder of the images, searched with its subfolders.
        label_maps: Folder of the label maps, PNG files in the same subfolders.
        classes: Number of classes; labels are 0 to classes - 1, and 255 is ignored. ``None``
            accepts all labels.
        sample: Number of pairs to decode; of all others only the header is read.
        report: Where to add findings and problems.
    """
    for folder, what in ((images, 'the images'), (label_maps, 'the label maps')):
        if not folder.is_dir():
            report.add_problem(f'{folder} is not a folder', f'give the folder of {what}')
            return
    by_stem = _by_stem(images, IMAGE_EXTENSIONS)
    labels = _by_stem(label_maps, ('.png',))
    common = by_stem.keys() & labels.keys()
    for missing, there, folder in (
        (by_stem.keys() - common, 'images', label_maps),
        (labels.keys() - common, 'label maps', images),
    ):
        if missing:
            report.add_problem(
                f'{len(missing):,} {there} have no partner of the same name in {folder}: '
                f'{list_first(sorted(missing))}',
                'add the missing files, or remove these',
            )
    pairs = {by_stem[stem]: labels[stem] for stem in sorted(common)}
    values = None if classes is None else frozenset({*range(classes), IGNORED})
    decoded = _check_pairs_of(pairs, sample, values, 'correct its labels or --classes', report)
    if not common and not report.problems:
        report.add_problem(f'{images} has no images', 'give the folder of the images')
    report.findings.append(
        f'{len(by_stem):,} images, {len(labels):,} label maps, {decoded:,} pairs decoded'
    )


def _by_stem(folder: Path, extensions: Sequence[str]) -> dict[str, Path]:
    """Return the files of a folder by their path in it without extension."""
    return {
        str(file.relative_to(folder).with_suffix('')): file
        for file in folder.rglob('*')
        if file.suffix.lower() in extensions and file.is_file()
    }


def _stems(
    root: Path, folder: str, suffix: str, layout: LabelMapLayout, report: Report
) -> set[str] | None:
    """The names of a folder's files, relative to it and without their suffix."""
    path = root / folder
    if not path.is_dir():
        report.add_problem(
            f'{path} is missing', f'download {layout.source} and unpack it in {root}'
        )
        return None
    names = (str(file.relative_to(path)) for file in path.rglob(f'*{suffix}'))
    stems = {name.removesuffix(suffix) for name in names}
    if not stems:
        report.add_problem(
            f'{path} has no file that ends in {suffix}',
            f'download {layout.source} and unpack it in {root}',
        )
        return None
    return stems


def _label_stems(layout: LabelMapLayout, root: Path, split: str, report: Report) -> set[str] | None:
    folder = layout.splits[split].label_maps
    if layout.wrong_suffix and (root / folder).is_dir():
        is_converted = any((root / folder).rglob(f'*{layout.label_suffix}'))
        if not is_converted and any((root / folder).rglob(f'*{layout.wrong_suffix}')):
            report.add_problem(
                f'{root / folder} has label maps *{layout.wrong_suffix}, but training needs '
                f'*{layout.label_suffix}',
                layout.conversion.format(root=root),
            )
            return None
    return _stems(root, folder, layout.label_suffix, layout, report)


def _check_count(
    layout: LabelMapLayout, root: Path, split: str, images: set[str], count: int, report: Report
) -> None:
    if len(images) == count:
        return
    folder = root / layout.splits[split].images
    others = [other for other, folders in layout.splits.items() if folders.count == len(images)]
    if others and others != [split]:
        report.add_problem(
            f'{folder} has {len(images):,} images, which is the {others[0]} split of '
            f'{layout.title}',
            f'put the {count:,} images of the {split} split there',
        )
    else:
        report.add_problem(
            f'{folder} has {len(images):,} images where {layout.title} has {count:,}',
            f'unpack {layout.source} again, or give the numbers of your own split by --counts',
        )


def _check_pairs(
    layout: LabelMapLayout,
    root: Path,
    split: str,
    images: set[str],
    label_maps: set[str],
    report: Report,
) -> None:
    folders = layout.splits[split]
    if not images & label_maps:
        report.add_problem(
            f'No image of {root / folders.images} has a label map in {root / folders.label_maps}: '
            'they are of different splits or data sets',
            f'unpack {layout.source} again',
        )
        return
    for missing, there, folder, suffix in (
        (images - label_maps, 'images', folders.label_maps, layout.label_suffix),
        (label_maps - images, 'label maps', folders.images, layout.image_suffix),
    ):
        if missing:
            names = list_first(f'{stem}{suffix}' for stem in sorted(missing))
            report.add_problem(
                f'{len(missing):,} {there} of the {split} split have no partner in '
                f'{root / folder}: {names}',
                f'unpack {layout.source} again',
            )


def _check_pairs_of(
    pairs: Mapping[Path, Path], sample: int, values: frozenset[int] | None, fix: str, report: Report
) -> int:
    """Check the headers of images with their label maps, and decode some; return how many."""
    sizes = {}
    for image, label_map in pairs.items():
        header = read_header(label_map)
        sizes[image] = header and header[0]
    check_headers(sizes, report)
    chosen = choose(sorted(pairs), sample)
    useless = [
        image for image in chosen if not _check_pair(image, pairs[image], values, fix, report)
    ]
    if chosen and len(useless) == len(chosen):
        report.add_problem(
            f'none of {len(chosen):,} label maps has a pixel of any class',
            'check what was exported',
        )
    return len(chosen)


def _check_pair(
    image: Path, label_map: Path, values: frozenset[int] | None, fix: str, report: Report
) -> bool:
    """Check one pair; return whether its label map has a pixel to learn from."""
    decoded = read_image(image, report)
    labels = read_label_map(label_map, report)
    if decoded is None or labels is None:
        return True
    # Rotated ones are reported by their header.
    if sorted(decoded.size) != sorted(labels.shape):
        report.add_problem(
            f'{label_map} is {labels.shape[1]} x {labels.shape[0]} pixels, its image '
            f'{decoded.size[0]} x {decoded.size[1]}: it is of another data set or version',
            fix,
        )
    found = set(np.unique(labels).tolist())
    strange = sorted(found - values) if values is not None else []
    if strange:
        report.add_problem(
            f'{label_map} has the labels {list_first(strange)}, which the data set does not have: '
            'it is of another data set, or not converted',
            fix,
        )
    return bool(found - {IGNORED})

"""The check of a data set with one label map an image: ADE20K, Cityscapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.dataset_check.images import choose, read_image, read_label_map
from revcol_backbone.dataset_check.layouts import LabelMapLayout
from revcol_backbone.dataset_check.report import Report


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
    for stem in choose(sorted(images & label_maps), sample):
        _check_pair(
            layout,
            root / folders.images / (stem + layout.image_suffix),
            root / folders.label_maps / (stem + layout.label_suffix),
            report,
        )
    report.findings.append(
        f'{split}: {len(images):,} images, {len(label_maps):,} label maps, '
        f'{min(sample, len(images & label_maps)):,} pairs decoded'
    )


def _stems(
    root: Path, folder: str, suffix: str, layout: LabelMapLayout, report: Report
) -> set[str] | None:
    """The names of a folder's files, relative to it and without their suffix."""
    path = root / folder
    if not path.is_dir():
        report.wrong(f'{path} is missing', f'download {layout.source} and unpack it in {root}')
        return None
    names = (str(file.relative_to(path)) for file in path.rglob(f'*{suffix}'))
    stems = {name.removesuffix(suffix) for name in names}
    if not stems:
        report.wrong(
            f'{path} holds no file that ends in {suffix}',
            f'download {layout.source} and unpack it in {root}',
        )
        return None
    return stems


def _label_stems(layout: LabelMapLayout, root: Path, split: str, report: Report) -> set[str] | None:
    folder = layout.splits[split].label_maps
    if layout.wrong_suffix and (root / folder).is_dir():
        is_converted = any((root / folder).rglob(f'*{layout.label_suffix}'))
        if not is_converted and any((root / folder).rglob(f'*{layout.wrong_suffix}')):
            report.wrong(
                f'{root / folder} holds label maps *{layout.wrong_suffix}, but training needs '
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
        report.wrong(
            f'{folder} holds {len(images):,} images, which is the {others[0]} split of '
            f'{layout.title}',
            f'put the {count:,} images of the {split} split there',
        )
    else:
        report.wrong(
            f'{folder} holds {len(images):,} images where {layout.title} has {count:,}',
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
        report.wrong(
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
            report.wrong(
                f'{len(missing):,} {there} of the {split} split have no partner in '
                f'{root / folder}: {names}',
                f'unpack {layout.source} again',
            )


def _check_pair(layout: LabelMapLayout, image: Path, label_map: Path, report: Report) -> None:
    picture = read_image(image, report)
    labels = read_label_map(label_map, report)
    if picture is None or labels is None:
        return
    if picture.size != labels.shape[::-1]:
        report.wrong(
            f'{label_map} is {labels.shape[1]} x {labels.shape[0]} pixels, its image '
            f'{picture.size[0]} x {picture.size[1]}: it is of another data set or version',
            f'unpack {layout.source} again',
        )
    strange = sorted(set(np.unique(labels).tolist()) - layout.values)
    if strange:
        report.wrong(
            f'{label_map} holds the labels {list_first(strange)}, which {layout.title} does not '
            'have: it is of another data set, or not converted',
            layout.conversion.format(root=label_map.parents[3])
            if layout.conversion
            else f'unpack {layout.source} again',
        )

"""The entry points: a published data set by its name, or files of any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from revcol_backbone.dataset_check.instances import check_coco_format, check_instances
from revcol_backbone.dataset_check.label_maps import check_label_map_folders, check_label_maps
from revcol_backbone.dataset_check.layouts import LAYOUTS, InstanceLayout, LabelMapLayout
from revcol_backbone.dataset_check.report import Report

DEFAULT_SAMPLE = 200


def check_dataset(
    name: str,
    root: Path,
    splits: Sequence[str] = ('train', 'val'),
    sample: int = DEFAULT_SAMPLE,
    counts: Sequence[int] | None = None,
) -> Report:
    """Check the tree, counts and category ids of a published data set, and a sample of its files.

    Args:
        name: A key of :data:`LAYOUTS`.
        root: The ``data_root`` of its configs.
        splits: ``'train'``, ``'val'`` or both (default).
        sample: Number of images to decode in each split, with their annotations. The choice is
            random and the same every time.
        counts: Number of images in each of ``splits``; by default those of the published data set.

    Raises:
        ValueError: The name, a split or a number is not allowed.
        ImportError: The package that knows the category names is not installed.
    """
    layout = _layout_of(name)
    if not splits or set(splits) - layout.splits.keys():
        raise ValueError(f'the splits {tuple(splits)!r} are not allowed; give train, val or both')
    _check_sample(sample)
    if counts is not None and len(counts) != len(splits):
        raise ValueError(f'{len(counts)} counts were given for {len(splits)} splits')
    report = Report()
    if not _is_data_set_root(layout, root, splits, report):
        return report
    for index, split in enumerate(splits):
        count = layout.splits[split].count if counts is None else counts[index]
        if isinstance(layout, InstanceLayout):
            check_instances(layout, root, split, count, sample, report)
        else:
            check_label_maps(layout, root, split, count, sample, report)
    return report


def check_coco_dataset(annotations: Path, images: Path, sample: int = DEFAULT_SAMPLE) -> Report:
    """Check any COCO-format data set.

    Args:
        annotations: The annotation file.
        images: The folder that its file names are relative to.
        sample: Number of images to decode; of all others only the header is read.

    Raises:
        ValueError: The sample is negative.
    """
    _check_sample(sample)
    report = Report()
    check_coco_format(annotations, images, sample, report)
    return report


def check_label_map_dataset(
    images: Path, label_maps: Path, classes: int | None = None, sample: int = DEFAULT_SAMPLE
) -> Report:
    """Check any data set with a label map for each image.

    Args:
        images: Folder of the images, searched with its subfolders.
        label_maps: Folder of the label maps, PNG files in the same subfolders.
        classes: Number of classes; labels are 0 to classes - 1, and 255 is ignored. ``None``
            accepts all labels.
        sample: Number of pairs to decode; of all others only the header is read.

    Raises:
        ValueError: The sample is negative.
    """
    _check_sample(sample)
    report = Report()
    check_label_map_folders(images, label_maps, classes, sample, report)
    return report


def _check_sample(sample: int) -> None:
    if sample < 0:
        raise ValueError(f'a sample of {sample} images is not allowed; give 0 or more')


def _layout_of(name: str) -> InstanceLayout | LabelMapLayout:
    if name not in LAYOUTS:
        raise ValueError(f'the data set {name!r} is unknown; use one of {", ".join(LAYOUTS)}')
    return LAYOUTS[name]


def _is_data_set_root(
    layout: InstanceLayout | LabelMapLayout, root: Path, splits: Sequence[str], report: Report
) -> bool:
    """Report an empty folder, or one beside the right one, once instead of for every file."""
    get = f'download {layout.source} and unpack it there'
    if not root.is_dir():
        report.add_problem(f'{root} is not a folder', f'correct the path, or {get}')
    elif not any(root.iterdir()):
        report.add_problem(f'{root} is empty', get)
    elif not _has_any(layout, root, splits):
        inner = [
            path for path in root.iterdir() if path.is_dir() and _has_any(layout, path, splits)
        ]
        found = ', '.join(sorted(path.name for path in root.iterdir())[:5])
        if inner:
            report.add_problem(f'{root} is the parent folder of {layout.title}', f'give {inner[0]}')
        else:
            report.add_problem(
                f'{root} has nothing of {layout.title} (there are: {found})',
                f'correct the path, or {get}',
            )
    else:
        return True
    return False


def _has_any(layout: InstanceLayout | LabelMapLayout, root: Path, splits: Sequence[str]) -> bool:
    paths = {layout.splits[split].images for split in splits}
    if isinstance(layout, InstanceLayout):
        paths |= {layout.splits[split].annotations for split in splits}
    else:
        paths |= {layout.splits[split].label_maps for split in splits}
    return any((root / path).exists() for path in paths)

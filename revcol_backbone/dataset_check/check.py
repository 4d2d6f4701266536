"""The check of a data set's tree, and the hand-over to the check of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from revcol_backbone.dataset_check.instances import check_instances
from revcol_backbone.dataset_check.label_maps import check_label_maps
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
    """Check a data set's tree, counts and category ids, and a sample of its files.

    Args:
        name: A key of :data:`LAYOUTS`.
        root: The folder that a config names as ``data_root``.
        splits: ``'train'``, ``'val'`` or both (default).
        sample: Images to decode in each split, with their annotations; 0 for none. The choice is
            random and the same every time.
        counts: Images in each of ``splits``; by default those of the published data set.

    Returns:
        What is there and what is wrong with it.

    Raises:
        ValueError: The name, a split or a number is not allowed.
        ImportError: The package that knows the category names is not installed.
    """
    layout = _layout_of(name)
    if not splits or set(splits) - layout.splits.keys():
        raise ValueError(f'the splits {tuple(splits)!r} are not allowed; give train, val or both')
    if sample < 0:
        raise ValueError(f'a sample of {sample} images is not allowed; give 0 or more')
    if counts is not None and len(counts) != len(splits):
        raise ValueError(f'{len(counts)} counts were given for {len(splits)} splits')
    report = Report()
    if not _is_data_set_root(layout, root, splits, report):
        return report
    check = check_instances if isinstance(layout, InstanceLayout) else check_label_maps
    for index, split in enumerate(splits):
        count = layout.splits[split].count if counts is None else counts[index]
        check(layout, root, split, count, sample, report)
    return report


def _layout_of(name: str) -> InstanceLayout | LabelMapLayout:
    if name not in LAYOUTS:
        raise ValueError(f'the data set {name!r} is unknown; use one of {", ".join(LAYOUTS)}')
    return LAYOUTS[name]


def _is_data_set_root(
    layout: InstanceLayout | LabelMapLayout, root: Path, splits: Sequence[str], report: Report
) -> bool:
    """Tell an empty folder, or one beside the right one, in one sentence instead of many."""
    get = f'download {layout.source} and unpack it there'
    if not root.is_dir():
        report.wrong(f'{root} is no folder', f'correct the path, or {get}')
    elif not any(root.iterdir()):
        report.wrong(f'{root} is empty', get)
    elif not _has_any(layout, root, splits):
        inner = [
            path for path in root.iterdir() if path.is_dir() and _has_any(layout, path, splits)
        ]
        found = ', '.join(sorted(path.name for path in root.iterdir())[:5])
        if inner:
            report.wrong(f'{root} is the folder around {layout.title}', f'give {inner[0]}')
        else:
            report.wrong(
                f'{root} holds nothing of {layout.title} (there are: {found})',
                f'correct the path, or {get}',
            )
    else:
        return True
    return False


def _has_any(layout: InstanceLayout | LabelMapLayout, root: Path, splits: Sequence[str]) -> bool:
    chosen = [layout.splits[split] for split in splits]
    if isinstance(layout, InstanceLayout):
        paths = [path for split in chosen for path in (split.annotations, split.images)]
    else:
        paths = [path for split in chosen for path in (split.label_maps, split.images)]
    return any((root / path).exists() for path in paths)

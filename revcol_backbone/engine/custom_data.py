"""What the configs for a user's own data set need beside values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.fileio import load


def read_classes(ann_file: str | Path) -> tuple[str, ...]:
    """Read the class names of a COCO annotation file, in the order of their ids.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no categories, or two of one name.
    """
    if not Path(ann_file).is_file():
        raise FileNotFoundError(
            f'{ann_file} is not a file; correct `data_root` and `ann_file` in the config.'
        )
    categories = load(str(ann_file), file_format='json').get('categories', [])
    classes = tuple(entry['name'] for entry in sorted(categories, key=lambda entry: entry['id']))
    if not classes:
        raise ValueError(f'{ann_file} has no categories; give a COCO annotation file.')
    twice = {name for name in classes if classes.count(name) > 1}
    if twice:
        raise ValueError(
            f'{ann_file} has two categories of the name {sorted(twice)[0]!r}; rename one.'
        )
    return classes


def set_num_classes(model: Any, count: int) -> Any:
    """Set ``num_classes`` of every head of a model's config, wherever it stands.

    Args:
        model: The ``model`` of a config, which is changed. Heads of detectors and segmentors are
            found by their ``num_classes``, at any depth; a semantic branch keeps its own.
        count: Number of classes, without a background class for detectors.

    Returns:
        The same model.
    """
    parts = model.values() if isinstance(model, dict) else model
    for part in parts:
        if isinstance(part, (dict, list)):
            set_num_classes(part, count)
    is_head = isinstance(model, dict) and 'num_classes' in model
    if is_head and model.get('type') != 'FusedSemanticHead':
        model['num_classes'] = count
    return model

"""Whether a detector's data set has the annotations that the config reads, before a run starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class AnnotationCheckHook(Hook):
    """Stop a run whose data set lacks the classes or the masks that the config asks for.

    Without it a class that the annotation file does not have is skipped, and an object without a
    mask ends a training with ``KeyError: 'mask'``.
    """

    def before_train(self, runner: Any) -> None:
        """Check the training set, and the validation set before it is needed."""
        check_annotations(runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            check_annotations(runner.val_dataloader.dataset)

    def before_test(self, runner: Any) -> None:
        """Check the test set."""
        check_annotations(runner.test_dataloader.dataset)


def check_annotations(dataset: Any) -> None:
    """Check a data set of mmdet that reads a COCO annotation file; others pass.

    Args:
        dataset: The data set, or a wrapper around one or more.

    Raises:
        ValueError: A class is in no category of the file, or the pipeline loads masks and an object
            has none; the message says what to change.
    """
    for part in _innermost(dataset):
        if not hasattr(part, 'cat_ids') or not hasattr(part, 'ann_file'):
            continue
        _check_classes(part)
        if any(getattr(step, 'with_mask', False) for step in part.pipeline.transforms):
            _check_masks(part)


def _innermost(dataset: Any) -> Iterator[Any]:
    if hasattr(dataset, 'datasets'):
        for part in dataset.datasets:
            yield from _innermost(part)
    elif hasattr(dataset, 'dataset'):
        yield from _innermost(dataset.dataset)
    else:
        yield dataset


def _check_classes(dataset: Any) -> None:
    classes = dataset.metainfo['classes']
    if len(dataset.cat_ids) == len(classes):
        return
    api = dataset.COCOAPI(dataset.ann_file)
    names = [category['name'] for category in api.load_cats(api.get_cat_ids())]
    unknown = [name for name in classes if name not in names]
    raise ValueError(
        f'{dataset.ann_file} has no category {", ".join(map(repr, unknown))}; its categories are '
        f'{", ".join(map(repr, names))}: correct `classes` in the config.'
    )


def _check_masks(dataset: Any) -> None:
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if any('mask' not in instance for instance in info['instances']):
            raise ValueError(
                f'{dataset.ann_file}: an object of {info["img_path"]} has no mask, which this '
                'config needs; for boxes alone inherit from one of '
                'revcol_{t,s,b,l,h}_cascade_boxes.py.'
            )

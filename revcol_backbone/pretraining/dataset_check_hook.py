"""The check of the images and classes before the first epoch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from PIL import Image
from rich.console import Console
from rich.progress import track

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.pretraining.classes import number_of_classes

LISTED = 10
# JPEGs are decoded at a fraction of their size: their data are read whole all the same.
DRAFT_SIZE = (32, 32)


@HOOKS.register_module()
class ImageDatasetCheckHook(Hook):
    """Stop a training whose data cannot be right before its first epoch.

    An error is: fewer than two classes; more classes, or higher labels, than the model's head has;
    other classes in validation than in training; images that cannot be decoded, all of which are
    looked for. A resumed training has been checked.

    Args:
        decode: Decode every image; several minutes for ImageNet on 16 cores. Default ``True``.
    """

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode

    def before_train(self, runner: Any) -> None:
        """Check the training and validation sets of a new training.

        Raises:
            ValueError: Something is wrong; one sentence says what and what to do.
        """
        if runner.iter:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = number_of_classes(model)
        training = runner.train_dataloader.dataset
        check_classes(training, head)
        sets = [training]
        if runner.val_loop is not None:
            validation = runner.val_loop.dataloader.dataset
            check_same_classes(training, validation)
            sets.append(validation)
        if self.decode:
            check_images([_path(dataset, i) for dataset in sets for i in range(len(dataset))])


def check_classes(dataset: Any, head: int | None) -> None:
    """Check that a data set has two classes or more, and not more than a head.

    Raises:
        ValueError: It has not.
    """
    labels = {int(label) for label in dataset.get_gt_labels()}
    where = dataset.img_prefix or dataset.ann_file
    named = len(dataset.CLASSES or ()) or max(labels) + 1
    if len(labels) < 2:
        raise ValueError(
            f'{where} has images of one class only, which cannot be learned; give a folder with a '
            'subfolder of images for each class, or a list with several labels.'
        )
    if min(labels) < 0 or (head is not None and max(named, max(labels) + 1) > head):
        raise ValueError(
            f'{where} has {max(named, max(labels) + 1)} classes (labels {min(labels)} to '
            f"{max(labels)}), and the model's head has {head}; set `model.num_classes` to the "
            'number of classes, and count labels from 0.'
        )


def check_same_classes(training: Any, validation: Any) -> None:
    """Check that labels mean the same in both sets.

    Raises:
        ValueError: They do not.
    """
    if training.CLASSES and validation.CLASSES and training.CLASSES != validation.CLASSES:
        differing = sorted(set(training.CLASSES) ^ set(validation.CLASSES))
        raise ValueError(
            f'the classes of {validation.img_prefix} are not those of {training.img_prefix}: only '
            f'one of them has {list_first(differing)}; make the subfolders the same.'
        )


def check_images(paths: Sequence[str]) -> None:
    """Decode images, this process's share of them, and list those that cannot be decoded.

    Raises:
        ValueError: There are any; the first ten are named, in every process.
    """
    share = paths[get_rank() :: get_world_size()]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        shows = is_main_process() and sys.stderr.isatty()
        decoded = track(
            pool.map(_is_readable, share),
            'Checking the images',
            total=len(share),
            console=Console(stderr=True),
            disable=not shows,
        )
        unreadable = [path for path, fine in zip(share, decoded, strict=True) if not fine]
    unreadable = sorted(path for part in all_gather_object(unreadable) for path in part)
    if unreadable:
        raise ValueError(
            f'{len(unreadable)} of {len(paths)} images cannot be decoded: '
            f'{list_first(unreadable, LISTED)}; replace or delete them.'
        )


def _path(dataset: Any, index: int) -> str:
    return dataset.get_data_info(index)['img_path']


def _is_readable(path: str) -> bool:
    try:
        with Image.open(path) as image:
            image.draft('RGB', DRAFT_SIZE)
            image.load()
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for broken files
        return False
    return True

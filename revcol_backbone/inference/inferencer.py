"""A mixin for OpenMMLab's inferencers: models load whole or not at all, with their class names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.model import BaseTTAModel, revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS
from torch import nn

from revcol_backbone.engine.building import load_whole
from revcol_backbone.inference.drawing import make_palette


class WholeModelInferencer(BaseInferencer):
    """Mix into a class before mmdet's or mmseg's inferencer.

    Theirs load what fits of a checkpoint and warn about the rest, and assume the classes of COCO or
    Cityscapes for a checkpoint without class names. Here, a checkpoint that does not fit is an
    error, and the data set of the config supplies the class names that the checkpoint lacks.
    """

    def _init_model(self, cfg: Config, weights: str, device: str = 'cpu') -> nn.Module:
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.cfg = cfg
        checkpoint = load_whole(model, Path(weights))
        meta = read_dataset_meta(checkpoint, cfg)
        check_classes(model, meta['classes'], weights)
        palette = make_palette(meta['classes'], meta['palette'])
        model.dataset_meta = dict(meta, palette=[tuple(color) for color in palette.tolist()])
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Compose:
        # There are no annotations to load, and an augmented pipeline nests its transforms.
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = _without_annotations(dataset.pipeline)
        return super()._init_pipeline(cfg)

    def _init_collate(self, cfg: Config) -> Callable:
        # mmengine's own lookup warns about the registry if a config names no function.
        has_own = 'collate_fn' in cfg.test_dataloader
        return super()._init_collate(cfg) if has_own else pseudo_collate


def read_dataset_meta(checkpoint: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Find the class names and, if the data set has them, the class colors (RGB).

    Args:
        checkpoint: The whole checkpoint, whose ``meta`` takes precedence for the class names.
        config: The config, whose test data set takes precedence for the colors.

    Returns:
        A dictionary with ``classes`` and ``palette``, each ``None`` if it is unknown.
    """
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    stored = meta.get('dataset_meta', meta)
    stored = stored if isinstance(stored, Mapping) else {}
    stored = {str(key).lower(): value for key, value in stored.items()}
    configured = _metainfo_of(config.test_dataloader.dataset)
    classes = stored.get('classes') or configured.get('classes')
    classes = (classes,) if isinstance(classes, str) else classes
    return {
        'classes': tuple(map(str, classes)) if classes else None,
        'palette': configured.get('palette'),
    }


def check_classes(model: nn.Module, classes: Sequence[str] | None, source: str) -> None:
    """Check that each class of a model has a name.

    Raises:
        ValueError: There are no names, or more or fewer than classes.
    """
    number = _number_of_classes(model)
    if classes is None or (number is not None and len(classes) != number):
        named = 'no classes' if classes is None else f'{len(classes)} classes'
        raise ValueError(
            f'{source} and its config name {named}, the model has {number}; set '
            '`test_dataloader.dataset.metainfo.classes` in the config.'
        )


def _metainfo_of(config: ConfigDict) -> dict[str, Any]:
    """Return the metadata of a data set without reading its files."""
    dataset = DATASETS.build(dict(config, lazy_init=True, test_mode=False, pipeline=[]))
    metainfo = dataset.metainfo
    own, given = type(dataset).METAINFO, config.get('metainfo', {})
    is_known = 'palette' in own and set(metainfo.get('classes') or ()) <= set(own['classes'])
    if 'palette' not in given and not is_known:
        metainfo.pop('palette', None)  # of other classes, or random ones made up by mmseg
    return metainfo


def _number_of_classes(model: nn.Module) -> int | None:
    model = model.module if isinstance(model, BaseTTAModel) else model
    head = getattr(model, 'roi_head', model)
    head = getattr(head, 'bbox_head', head)
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    return getattr(head, 'num_classes', None)


def _without_annotations(pipeline: Sequence[Any]) -> list[Any]:
    kept = []
    for transform in pipeline:
        if isinstance(transform, Sequence):
            transform = _without_annotations(transform)
            if not transform:
                continue
        elif 'transforms' in transform:
            transform.transforms = _without_annotations(transform.transforms)
        elif transform['type'] == 'LoadAnnotations':
            continue
        kept.append(transform)
    return kept

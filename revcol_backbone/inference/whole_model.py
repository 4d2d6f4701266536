"""An inferencer's model, loaded whole or not at all, with the names of its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel, revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS
from torch import nn

from revcol_backbone.checkpoints.finetuned import fit_weights
from revcol_backbone.checkpoints.reading import read_checkpoint, weights_entry
from revcol_backbone.checkpoints.state_dict import shapes_of
from revcol_backbone.inference.palette import make_palette


class WholeModelInferencer:
    """Goes before mmdet's or mmseg's inferencer among the bases of a class.

    Theirs load what fits of a checkpoint and warn about the rest, and take COCO's or Cityscapes'
    classes where a checkpoint names none. Here a checkpoint that does not fit is an error, and the
    config's data set names the classes that the checkpoint does not.
    """

    def _init_model(self, cfg: Config, weights: str, device: str = 'cpu') -> nn.Module:
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.cfg = cfg
        checkpoint = load_whole(model, Path(weights))
        meta = read_dataset_meta(checkpoint, cfg)
        check_classes(model, meta['classes'], weights)
        palette = make_palette(meta['classes'], meta['palette'])
        model.dataset_meta = dict(meta, palette=[tuple(colour) for colour in palette.tolist()])
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Compose:
        # There are no annotations to load, and an augmented pipeline nests its transforms.
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = _without_annotations(dataset.pipeline)
        return super()._init_pipeline(cfg)

    def _init_collate(self, cfg: Config) -> Callable:
        # mmengine's own look-up warns about the registry where a config names no function.
        has_own = 'collate_fn' in cfg.test_dataloader
        return super()._init_collate(cfg) if has_own else pseudo_collate


def load_whole(model: nn.Module, path: Path) -> dict[str, Any]:
    """Load a fine-tuned checkpoint of present or older versions without running code from it.

    Args:
        model: A detector or segmentor, which may be wrapped for test-time augmentation.
        path: The checkpoint.

    Returns:
        Everything that the file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no checkpoint, or does not fit the model exactly.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is not a file; give the checkpoint of a trained model, downloaded already.'
        )
    model = model.module if isinstance(model, BaseTTAModel) else model
    checkpoint = read_checkpoint(path)
    entry = weights_entry(checkpoint, path)
    stored = checkpoint if entry is None else checkpoint[entry]
    expected = shapes_of(model.state_dict())
    weights = fit_weights(stored, expected, path, MMLogger.get_current_instance())
    # Only the counters of batch norms, which `fit_weights` lets a file lack, can be missing now.
    model.load_state_dict(weights, strict=False)
    return checkpoint


def read_dataset_meta(checkpoint: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The classes and, where the data set has them, their colours (RGB).

    Args:
        checkpoint: All of a checkpoint, whose ``meta`` goes first for the classes.
        config: The config, whose test data set goes first for the colours.

    Returns:
        A dictionary with ``classes`` and ``palette``, each ``None`` where nothing names it.
    """
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    stored = meta.get('dataset_meta', meta)
    stored = {str(key).lower(): value for key, value in stored.items()}
    configured = _metainfo_of(config.test_dataloader.dataset)
    classes = stored.get('classes') or configured.get('classes')
    classes = (classes,) if isinstance(classes, str) else classes
    return {
        'classes': tuple(map(str, classes)) if classes else None,
        'palette': configured.get('palette'),
    }


def check_classes(model: nn.Module, classes: Sequence[str] | None, source: str) -> None:
    """Check that there is a name for each class that a model tells apart.

    Raises:
        ValueError: There are none, or more or fewer than classes.
    """
    number = _number_of_classes(model)
    if classes is None or (number is not None and len(classes) != number):
        named = 'no classes' if classes is None else f'{len(classes)} classes'
        raise ValueError(
            f'{source} and its config name {named}, the model has {number}; set '
            '`test_dataloader.dataset.metainfo.classes` in the config.'
        )


def _metainfo_of(config: ConfigDict) -> dict[str, Any]:
    """What a data set says about itself, without reading its files."""
    dataset = DATASETS.build(dict(config, lazy_init=True, test_mode=False, pipeline=[]))
    metainfo = dataset.metainfo
    own, given = type(dataset).METAINFO, config.get('metainfo', {})
    is_known = 'palette' in own and set(metainfo.get('classes') or ()) <= set(own['classes'])
    if 'palette' not in given and not is_known:
        metainfo.pop('palette', None)  # of other classes, or random ones that mmseg makes up
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

"""From a config and a checkpoint to a predictor."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from revcol_backbone.engine.building import read_model_config
from revcol_backbone.inference.model_source import find_model
from revcol_backbone.inference.predictor import Options, Predictor
from revcol_backbone.inference.tiling import Tiling

# What the models of a package are, and the tool for them.
PACKAGES = {'mmdet': ('a detector', 'infer_det.py'), 'mmseg': ('a segmentor', 'infer_seg.py')}


def load_predictor(
    config: str | Path,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    *,
    package: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    tta: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
) -> Predictor:
    """Load a trained detector or segmentor, whole or not at all.

    Args:
        config: A config file of mmdet or mmseg, the name of an installed config, such as
            ``'revcol_t_cascade'``, or ``'hf-hub:user/repository'`` of the Hugging Face Hub.
        checkpoint: A file or an ``http(s)`` address; by default the published file of the name.
            With two files nothing is downloaded.
        device: A device of torch; by default a GPU if there is one, else ``'cpu'``.
        package: ``'mmdet'`` or ``'mmseg'`` to accept only configs of that package.
        cfg_options: Changes to the config, as in ``--cfg-options``.
        batch_size: Number of images, or of tiles of one image, in a forward pass.
        tta: Test-time augmentation with the config's ``tta_model`` and ``tta_pipeline``.
        tile: Cut larger images into tiles of this many pixels; by default they stay whole.
        overlap: Pixels that neighboring tiles share; by default a quarter of ``tile``.

    Returns:
        A :class:`~revcol_backbone.inference.detection.DetectionPredictor` or a
        :class:`~revcol_backbone.inference.segmentation.SegmentationPredictor`.

    Raises:
        FileNotFoundError: The config or the checkpoint is missing.
        ValueError: One of them or an option cannot be used, or they do not belong together.
        ImportError: The config's package is not installed.
        ConnectionError: The checkpoint could not be downloaded.
    """
    tiling = None if tile is None else Tiling(tile, tile // 4 if overlap is None else overlap)
    options = Options(batch_size, tiling)
    config, checkpoint, own_options = find_model(config, checkpoint)
    device = choose_device(device)
    try:
        content = read_config(config, {**own_options, **(cfg_options or {})}, package)
        if tta:
            use_tta(content, config)
        identity = dict(
            config=_describe(config, repr(content.to_dict()).encode()),
            tta='with' if tta else 'without',
            tiles=f'{tiling.size} overlapping by {tiling.overlap}' if tiling else 'none',
        )
        predictor_class = _predictor_class(content)
        with DefaultScope.overwrite_default_scope(content.default_scope):
            predictor = predictor_class(content, str(checkpoint), device, options)
    except (ImportError, OSError, ValueError):
        raise
    except Exception as error:  # a setting of another type than expected can raise anything
        reason = ' '.join(str(error).split())
        raise ValueError(
            f'the model of {config} cannot be built ({type(error).__name__}: {reason}); correct '
            'the config or --cfg-options.'
        ) from error
    identity['checkpoint'] = _describe(checkpoint, _map_file(checkpoint))
    predictor.identity = identity
    return predictor


def read_config(
    path: str | Path, options: Mapping[str, Any] | None = None, package: str | None = None
) -> Config:
    """Read a config of mmdet or mmseg for prediction.

    Args:
        path: The config file.
        options: Changes to it, as in ``--cfg-options``.
        package: ``'mmdet'`` or ``'mmseg'`` to accept only configs of that package.

    Returns:
        The config, whose ``test_dataloader.dataset`` is the innermost data set and whose model
        does not load pre-trained weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a config of a detector or segmentor, or not the one asked for.
    """
    config = read_model_config(path, options)
    dataset = config.get('test_dataloader')
    dataset = dataset.get('dataset') if isinstance(dataset, Mapping) else None
    if not isinstance(dataset, Mapping):
        raise ValueError(
            f'{path} has no `test_dataloader` with a `dataset`; give the whole config of a trained '
            'model.'
        )
    scope = config.get('default_scope')
    if scope not in PACKAGES:
        raise ValueError(
            f"{path} has default_scope={scope!r}; a detector needs 'mmdet', a segmentor 'mmseg'."
        )
    if package not in (None, scope):
        kind, tool = PACKAGES[scope]
        raise ValueError(f'{path} is the config of {kind}; use tools/{tool}.')
    for part in (config.model, config.model.get('backbone', {})):
        part.pop('pretrained', None)
    config.test_dataloader.dataset = innermost_dataset(dataset)
    return config


def use_tta(config: Config, path: str | Path) -> None:
    """Switch a config to test-time augmentation, as ``mim test --tta`` does.

    Raises:
        ValueError: It has no ``tta_model`` or ``tta_pipeline``; ``path`` is for the message.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in config]
    if missing:
        raise ValueError(
            f'{path} has no {" and no ".join(f"`{key}`" for key in missing)}, which test-time '
            'augmentation needs; add it to the config (det_configs/_base_/multi_scale_test.py and '
            'seg_configs/_base_/ade20k_512x512.py show how) or omit --tta.'
        )
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.model = ConfigDict(**config.tta_model, module=config.model)


def innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """Return the data set inside wrappers that repeat, mix or concatenate; the first of several."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset.dataset if 'dataset' in dataset else dataset.datasets[0]
    return dataset


def choose_device(name: str | None) -> str:
    """Return the device of that name, or by default a GPU if there is one.

    Raises:
        ValueError: There is no such device.
    """
    if name is None:
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split('\n')[0]
        raise ValueError(
            f"device {name!r} cannot be used ({reason}); give 'cpu', or 'cuda' if there is a GPU."
        ) from None
    return name


def _predictor_class(config: Config) -> Callable[[Config, str, str, Options], Predictor]:
    # mmdet and mmseg are optional, so the predictor of the other one must not be imported.
    try:
        if config.default_scope == 'mmdet':
            from revcol_backbone.inference.detection import DetectionPredictor

            return DetectionPredictor
        from revcol_backbone.inference.segmentation import SegmentationPredictor

        return SegmentationPredictor
    except ImportError as error:
        extra = config.default_scope.removeprefix('mm')
        raise ImportError(
            f'{config.default_scope} cannot be imported ({error}); run '
            f"`pip install 'revcol-backbone[{extra}]'`."
        ) from error


def _describe(path: str | Path, content: bytes | mmap.mmap) -> str:
    return f'{Path(path).name} (sha256 {hashlib.sha256(content).hexdigest()[:12]})'


def _map_file(path: str | Path) -> mmap.mmap:
    with Path(path).open('rb') as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

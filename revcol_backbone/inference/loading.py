"""From a config and a checkpoint to a predictor."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from revcol_backbone.inference.config import read_config, use_augmented_test
from revcol_backbone.inference.predictor import Options, Predictor
from revcol_backbone.inference.tiling import Tiling


def load_predictor(
    config: str | Path,
    checkpoint: str | Path,
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
        config: A config of mmdet or mmseg, on this machine.
        checkpoint: Its checkpoint, on this machine; nothing else is read or downloaded.
        device: As of torch; by default a GPU if there is one, else ``'cpu'``.
        package: ``'mmdet'`` or ``'mmseg'`` to take only its configs.
        cfg_options: Changes of the config, as of ``--cfg-options``.
        batch_size: Pictures, or tiles of one, that go through the model together.
        tta: Test-time augmentation by the config's ``tta_model`` and ``tta_pipeline``.
        tile: Cut larger pictures into tiles of this many pixels; by default they stay whole.
        overlap: Pixels that neighbouring tiles share; by default a quarter of ``tile``.

    Returns:
        A :class:`~revcol_backbone.inference.detection.DetectionPredictor` or a
        :class:`~revcol_backbone.inference.segmentation.SegmentationPredictor`, by the config.

    Raises:
        FileNotFoundError: The config or the checkpoint is missing.
        ValueError: One of them, or an option, cannot be used, or they do not belong together.
        ImportError: The config's package is not installed.
    """
    tiling = None if tile is None else Tiling(tile, tile // 4 if overlap is None else overlap)
    options = Options(batch_size, tiling)
    content = read_config(config, cfg_options, package)
    if tta:
        use_augmented_test(content, config)
    device = choose_device(device)
    with DefaultScope.overwrite_default_scope(content.default_scope):
        predictor = _predictor_class(content)(content, str(checkpoint), device, options)
    predictor.identity = dict(
        config=_describe(config, repr(content.to_dict()).encode()),
        checkpoint=_describe(checkpoint, _map_file(checkpoint)),
        tta='with' if tta else 'without',
        tiles=f'{tiling.size} overlapping by {tiling.overlap}' if tiling else 'none',
    )
    return predictor


def choose_device(name: str | None) -> str:
    """The device of that name, or a GPU if there is one.

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
            f"device {name!r} cannot be used ({reason}); give 'cpu', or 'cuda' where there is a "
            'GPU.'
        ) from None
    return name


def _predictor_class(config: Config) -> type[Predictor]:
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

"""The model of a config, ready to be looked into: of a detector, a segmentor or a bare backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel, revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from revcol_backbone.checkpoints.finetuned import fit_weights
from revcol_backbone.checkpoints.reading import read_checkpoint, weights_entry
from revcol_backbone.checkpoints.state_dict import shapes_of
from revcol_backbone.revcol import RevCol


def read_model_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config that has a ``model``; one of a bare backbone needs nothing else.

    Args:
        path: The config file.
        options: Changes to it, as in ``--cfg-options``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, an option does not fit, or there is no ``model``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} is not a file; give a config of mmdet or mmseg.')
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is code, which can raise anything
        raise ValueError(
            f'{path} could not be read as a config ({type(error).__name__}: {error}); give a '
            'config of mmdet or mmseg.'
        ) from error
    try:
        config.merge_from_dict(dict(options or {}))
    except Exception as error:  # such as a key below one that is a number
        raise ValueError(
            f'the options {dict(options or {})} do not fit {path} ({type(error).__name__}: '
            f'{error}); give KEY=VALUE with keys of the config.'
        ) from error
    if not isinstance(config.get('model'), Mapping):
        raise ValueError(f'{path} has no `model`; give the config of a detector or segmentor.')
    return config


def build_model(
    config: Config, checkpoint: Path | None = None, device: torch.device | str = 'cpu'
) -> nn.Module:
    """Build a config's model in evaluation mode, batch norms for one process.

    Args:
        config: As from :func:`read_model_config`.
        checkpoint: Its trained weights, all of them; ``None`` leaves the random ones of the
            constructors: nothing is downloaded.
        device: Where it is to run.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It does not fit the model.
    """
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        model = revert_sync_batchnorm(MODELS.build(config.model))
    if checkpoint is not None:
        load_whole(model, checkpoint)
    model.to(device).eval()  # mmdet's bare backbones do not return themselves
    return model


def load_whole(model: nn.Module, path: Path) -> dict[str, Any]:
    """Load a fine-tuned checkpoint of present or older versions without running code from it.

    Args:
        model: A detector or segmentor, which may be wrapped for test-time augmentation.
        path: The checkpoint.

    Returns:
        Everything that the file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, not a checkpoint, or does not fit the model exactly.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is not a file; give the checkpoint of a trained model on this machine.'
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


def backbone_of(model: nn.Module) -> nn.Module:
    """The backbone of a detector or segmentor; a bare one is its own."""
    return getattr(model, 'backbone', model)


def require_revcol(model: nn.Module, source: Path) -> RevCol:
    """The backbone, which has to be a RevCol.

    Raises:
        ValueError: It is another one; ``source`` is for the message.
    """
    backbone = backbone_of(model)
    if not isinstance(backbone, RevCol):
        raise ValueError(
            f'The backbone of {source} is {type(backbone).__name__}, not RevCol; give a config '
            "with backbone=dict(type='RevCol', ...)."
        )
    return backbone

"""The model of a config, ready to be looked into: of a detector, a segmentor or a bare backbone."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from revcol_backbone.inference.whole_model import load_whole
from revcol_backbone.revcol import RevCol


def read_model_config(path: Path) -> Config:
    """Read a config that has a ``model``; one of a bare backbone needs nothing else.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or has no ``model``.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} is not a file; give a config of mmdet or mmseg.')
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is code, which can raise anything
        raise ValueError(
            f'{path} could not be read as a config ({type(error).__name__}: {error}).'
        ) from error
    if 'model' not in config:
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

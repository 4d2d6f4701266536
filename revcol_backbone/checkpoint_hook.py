"""Loading a whole fine-tuned model: of older versions too, without running code, or not at all."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from logging import Logger
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, CheckpointLoader
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from revcol_backbone.checkpoint_file import (
    list_first,
    read_checkpoint,
    weights_entry,
)
from revcol_backbone.checkpoint_layout import HEADS, shapes_of
from revcol_backbone.old_layout import rename_old_keys

_BACKBONES_HEAD = re.compile(rf'backbone\.({"|".join(HEADS)})\.')


@HOOKS.register_module()
class FineTunedCheckpointHook(Hook):
    """Make ``mim test --checkpoint`` take fine-tuned files of mmdet 2.x / 3.x, mmseg 0.x / 1.x.

    - A local file is read by :func:`~revcol_backbone.checkpoint_file.read_checkpoint`, so that
      Python objects that older versions saved beside the weights neither stop it nor run.
    - Weights under names of an older version get their present ones; the log says which.
    - In a test, and when training is resumed, a file that lacks a weight of the model, has others,
      or has one of another shape, is an error. Where training starts from ``load_from``, heads may
      differ, as for another number of classes; the backbone has to be there whole.

    Files made by the installed versions load as without this hook.
    """

    priority = 'LOW'  # after a hook for moving averages has chosen the weights

    def before_run(self, runner: Any) -> None:
        """Let the file that is about to be loaded be read without running code from it."""
        path = runner._load_from
        if path and not runner._resume and Path(path).expanduser().is_file():
            CheckpointLoader.register_scheme(f'{re.escape(path)}$', _read, force=True)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Rename old keys in a checkpoint and check that it fits.

        Raises:
            ValueError: It does not; the message has every kind of mismatch with the first keys.
        """
        source = Path(runner._load_from or 'The checkpoint')
        model = _unwrap(runner.model)
        if isinstance(model, FullyShardedDataParallel):
            return  # its weights have other names and shapes, which it checks itself
        entry = weights_entry(checkpoint, source)
        stored = checkpoint if entry is None else checkpoint[entry]
        expected = shapes_of(model.state_dict())
        weights = _rename(stored, expected, source, runner.logger)
        is_new_training = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        _check(weights, expected, source, only='backbone.' if is_new_training else '')
        if entry != 'state_dict' or weights.keys() != stored.keys():
            if hasattr(stored, '_metadata'):
                weights._metadata = stored._metadata
            checkpoint['state_dict'] = weights


def _read(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a file onto the CPU, from where loading copies it into the model."""
    return read_checkpoint(Path(filename).expanduser())


def _rename(
    stored: Mapping[str, Any], expected: dict[str, Any], source: Path, logger: Logger
) -> OrderedDict[str, Any]:
    """Drop what is no part of a fine-tuned model, and give old names their present ones."""
    own = {_without_wrapper(str(key)): value for key, value in stored.items()}
    # Classification heads and decoders of the pre-training that stayed in the backbone.
    left_out = [key for key in own if _BACKBONES_HEAD.match(key)]
    weights, renamed = rename_old_keys(
        {key: value for key, value in own.items() if key not in left_out}, expected
    )
    if left_out:
        logger.info(f'{source}: left out {list_first(left_out)}')
    if renamed:
        examples = list_first(f'{old} -> {new}' for old, new in renamed.items())
        logger.info(f'{source}: mapped {len(renamed)} names of an older version: {examples}')
    return OrderedDict(weights)


def _unwrap(model: nn.Module) -> nn.Module:
    while not isinstance(model, FullyShardedDataParallel) and (
        is_model_wrapper(model) or isinstance(model, BaseTTAModel)
    ):
        model = model.module
    return model


def _without_wrapper(key: str) -> str:
    while key.startswith('module.'):
        key = key.removeprefix('module.')
    return key


def _check(
    weights: Mapping[str, Any], expected: dict[str, tuple[int, ...]], source: Path, only: str
) -> None:
    found = shapes_of(weights)
    # The counters of batch norms, which old files may lack, play no part in a test.
    missing = [key for key in expected if key not in found and 'num_batches' not in key]
    unexpected = [key for key in found if key not in expected]
    misshapen = [
        f"{key} {found[key]} for the model's {shape}"
        for key, shape in expected.items()
        if found.get(key, shape) != shape
    ]
    problems = [
        f'{kind} {list_first(chosen)}'
        for kind, keys in (
            ('missing', missing),
            ('unexpected', unexpected),
            ('of another shape', misshapen),
        )
        if (chosen := [key for key in keys if key.startswith(only)])
    ]
    if problems:
        raise ValueError(
            f'{source} does not fit the model of this config, and nothing was loaded: '
            f'{"; ".join(problems)}; give the checkpoint of this config, or the config of this '
            'checkpoint (a checkpoint of a backbone alone belongs to '
            '`model.backbone.init_cfg.checkpoint`).'
        )

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
from torch.distributed.fsdp import FullyShardedDataParallel

from revcol_backbone.checkpoints.finetuned import rename_old_keys
from revcol_backbone.checkpoints.reading import (
    list_first,
    read_checkpoint,
    weights_entry,
)
from revcol_backbone.checkpoints.state_dict import HEADS, shapes_of

_BACKBONES_HEAD = re.compile(rf'backbone\.({"|".join(HEADS)})\.')


@HOOKS.register_module()
class FineTunedCheckpointHook(Hook):
    """Make ``mim test --checkpoint`` take fine-tuned files of mmdet 2.x / 3.x, mmseg 0.x / 1.x.

    - A local file is read by :func:`~revcol_backbone.checkpoints.reading.read_checkpoint`, so that
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
        if runner._load_from and not runner._resume:
            read_without_code(runner._load_from)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Rename old keys in a checkpoint and check that it fits.

        Raises:
            ValueError: It does not; the message has every kind of mismatch with the first keys.
        """
        source = Path(runner._load_from or 'The checkpoint')
        expected = _expected_shapes(runner)
        if expected is None:
            return
        entry = weights_entry(checkpoint, source)
        stored = checkpoint if entry is None else checkpoint[entry]
        is_new_training = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        only = 'backbone.' if is_new_training else ''
        weights = fit_weights(stored, expected, source, runner.logger, only)
        if entry != 'state_dict' or weights.keys() != stored.keys():
            if hasattr(stored, '_metadata'):
                weights._metadata = stored._metadata
            checkpoint['state_dict'] = weights


def fit_weights(
    stored: Mapping[str, Any],
    expected: dict[str, tuple[int, ...]],
    source: Path,
    logger: Logger,
    only: str = '',
) -> OrderedDict[str, Any]:
    """Give the weights of a fine-tuned file their present names, and check that they fit.

    Args:
        stored: The state dict as the file holds it.
        expected: The shapes of the model's state dict.
        source: The file, for messages.
        logger: Where it is said which names were mapped and what was left out.
        only: Check the weights whose names begin with this; by default all of them.

    Raises:
        ValueError: A weight is missing, unexpected or of another shape.
    """
    weights = _rename(stored, expected, source, logger)
    _check(weights, expected, source, only)
    return weights


def read_without_code(path: str) -> None:
    """Make mmengine read this file, if it is a local one, without running code from it."""
    if Path(path).expanduser().is_file():
        CheckpointLoader.register_scheme(f'{re.escape(path)}$', _read, force=True)


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


def _expected_shapes(runner: Any) -> dict[str, tuple[int, ...]] | None:
    """Of every entry of the whole model; ``None`` where sharding has hidden them."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        if isinstance(model, FullyShardedDataParallel):
            # `FSDPStrategy` of mmengine does not keep them, `RevColFSDPStrategy` does.
            return getattr(runner.strategy, 'whole_shapes', None)
        model = model.module
    return shapes_of(model.state_dict())


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

"""Fine-tuned models: weights under names of older versions, and loading whole or not at all.

Two-stage detectors (FPN, RPN, ConvFC and cascade box heads, FCN mask heads, HTC) and segmentors
with UPerNet, FPN and FCN heads have the same names and shapes in mmdet 2.x and 3.x, and in mmseg
0.x and 1.x. Mask2Former's transformers were rewritten: lists of attentions and feed-forward
networks became single modules with names (mmdet pull request 9515, mmseg pull request 2532).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Container, Mapping
from logging import Logger
from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader

from revcol_backbone.checkpoints.reading import list_first, read_checkpoint
from revcol_backbone.checkpoints.state_dict import (
    HEADS,
    check_finite,
    is_plain,
    shapes_of,
    without_wrapper,
)

_BACKBONES_HEAD = re.compile(rf'backbone\.({"|".join(HEADS)})\.')
_DECODER = r'(.*\btransformer_decoder\.layers\.\d+)'
_ENCODER = r'(.*\bpixel_decoder\.encoder\.layers\.\d+)'
# In Mask2Former's decoder the attention to the image comes first.
_RENAMED = tuple(
    (re.compile(old), new)
    for old, new in (
        (rf'{_DECODER}\.attentions\.0\.(.*)', r'\1.cross_attn.\2'),
        (rf'{_DECODER}\.attentions\.1\.(.*)', r'\1.self_attn.\2'),
        (rf'{_DECODER}\.ffns\.0\.(.*)', r'\1.ffn.\2'),
        (rf'{_ENCODER}\.attentions\.0\.(.*)', r'\1.self_attn.\2'),
        (rf'{_ENCODER}\.ffns\.0\.(.*)', r'\1.ffn.\2'),
    )
)


def fit_weights(
    stored: Mapping[str, Any],
    expected: Mapping[str, tuple[int, ...]],
    source: Path,
    logger: Logger,
    only: str | tuple[str, ...] = '',
) -> OrderedDict[str, Any]:
    """Rename the weights of a fine-tuned file to their present names and check that they fit.

    This is the one check that testing, inference, export, resuming and sharded training share.

    Args:
        stored: The state dict as the file holds it.
        expected: The shapes of the model's state dict.
        source: The file, for messages.
        logger: Gets the names that were mapped and those that were left out.
        only: Check the weights whose names begin with this prefix; by default all of them.

    Raises:
        ValueError: A weight is missing, unexpected, of another shape, not a dense real tensor, or
            not finite. The message has every kind of mismatch with the first names.
    """
    weights = _rename(stored, expected, source, logger)
    _check(weights, expected, source, only)
    return weights


def read_without_code(path: str) -> None:
    """Make mmengine read this file, if it is a local one, without running code from it."""
    if Path(path).expanduser().is_file():
        CheckpointLoader.register_scheme(f'{re.escape(path)}$', _read, force=True)


def rename_old_keys(
    weights: Mapping[str, Any], expected: Container[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Give the weights of an older major version the names of the installed one.

    Args:
        weights: A state dict.
        expected: The keys of the model; a weight that has one of them keeps it, and one whose new
            name is none of them keeps its old one.

    Returns:
        The state dict with new names, and the new name of each that changed.
    """
    renamed = {}
    for key in weights:
        if key in expected:
            continue
        new = next((old.sub(name, key) for old, name in _RENAMED if old.fullmatch(key)), key)
        if new != key and new in expected and new not in weights:
            renamed[key] = new
    return {renamed.get(key, key): value for key, value in weights.items()}, renamed


def _read(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a file onto the CPU, from where loading copies it into the model."""
    return read_checkpoint(Path(filename).expanduser())


def _rename(
    stored: Mapping[str, Any], expected: Container[str], source: Path, logger: Logger
) -> OrderedDict[str, Any]:
    """Drop what is no part of a fine-tuned model, and give old names their present ones."""
    own = {without_wrapper(str(key)): value for key, value in stored.items()}
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


def _check(
    weights: Mapping[str, Any],
    expected: Mapping[str, tuple[int, ...]],
    source: Path,
    only: str | tuple[str, ...],
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
    unusable = [key for key in expected if key in weights and not is_plain(weights[key])]
    problems = [
        f'{kind} {list_first(chosen)}'
        for kind, keys in (
            ('missing', [key for key in missing if key not in unusable]),
            ('unexpected', unexpected),
            ('of another shape', misshapen),
            ('not a dense real tensor', unusable),
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
    check_finite({key: value for key, value in weights.items() if key.startswith(only)}, source)

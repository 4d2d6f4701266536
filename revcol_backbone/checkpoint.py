"""Loading published and own checkpoints into a RevCol backbone, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from revcol_backbone.checkpoint_file import list_first, read_weights
from revcol_backbone.checkpoint_source import is_url, locate_checkpoint
from revcol_backbone.variants import LEVELS, VARIANTS, Architecture

# Classifiers and the reconstruction decoders of the pre-training.
HEADS = ('cls', 'cls_blocks', 'decoder_blocks')
KERNEL_KEY = '.dwconv.weight'

Shapes = Mapping[str, tuple[int, ...]]


def load_pretrained(backbone: nn.Module, checkpoint: str, prefix: str | None = None) -> None:
    """Load the backbone weights of a checkpoint; nothing is changed unless all of them fit.

    Takes the published files as they are: the weights bare or under ``model`` or ``state_dict``,
    with ``module.`` or ``backbone.`` before each key, heads beside them. Kernels smaller than the
    backbone's are zero-padded, stored dtypes are converted. No code of the file is run.

    Args:
        backbone: A :class:`~revcol_backbone.RevCol`, on any device but ``meta``, in any dtype.
        checkpoint: A path, or an ``http(s)`` address that is downloaded once.
        prefix: The prefix of the backbone's keys. By default ``backbone.`` where the file has it.

    Raises:
        FileNotFoundError: There is no such file; the message says where to get it.
        ConnectionError: The file could not be downloaded.
        ValueError: The file is not a checkpoint, is damaged or belongs to another network, or the
            backbone is on the meta device.
    """
    expected = backbone.state_dict()
    if any(tensor.is_meta for tensor in expected.values()):
        raise ValueError(
            f'{checkpoint} cannot be loaded into a backbone on the meta device, which holds no '
            'values; build it on the CPU or a GPU, or call `backbone.to_empty(device=...)` first.'
        )
    path = locate_checkpoint(checkpoint)
    try:
        weights = read_weights(path)
    except ValueError as error:
        if not is_url(checkpoint):
            raise
        raise ValueError(f'{error} It came from {checkpoint}: delete it and run again.') from None
    stored = select_backbone(weights, path, prefix)
    fitted, padded = stored, []
    if kernel_size := max(_kernel_sizes(_shapes(expected)), default=0):
        fitted, padded = pad_kernels(stored, kernel_size)
    _check_match(stored, fitted, expected, path)

    backbone.load_state_dict(fitted)
    print_log(
        f'loaded {len(fitted)} tensors of {path} into {type(backbone).__name__}, left out '
        f'{len(weights) - len(stored)} of heads and other parts',
        logger='current',
    )
    if padded:
        smallest = min(stored[key].shape[-1] for key in padded)
        print_log(
            f'zero-padded {len(padded)} depthwise kernels of {path} from {smallest}x{smallest} '
            f'to {kernel_size}x{kernel_size}',
            logger='current',
        )


def select_backbone(
    weights: Mapping[str, Tensor], source: Path, prefix: str | None = None
) -> dict[str, Tensor]:
    """Pick the backbone's weights and give them the backbone's own keys.

    Args:
        weights: The state dict of a backbone, classifier, detector or segmentor.
        source: The file it comes from, for messages.
        prefix: As in :func:`load_pretrained`.

    Raises:
        ValueError: No key has the prefix, or two keys name the same weight.
    """
    unwrapped = [(_without_wrapper(str(key)), value) for key, value in weights.items()]
    if prefix:
        wanted = _without_wrapper(prefix.rstrip('.') + '.')
        if not any(key.startswith(wanted) for key, _ in unwrapped):
            raise ValueError(
                f'{source} has no key with the prefix {prefix!r}: its keys are '
                f'{list_first(weights)}; correct or leave out `prefix`.'
            )
    else:
        wanted = 'backbone.' if any(key.startswith('backbone.') for key, _ in unwrapped) else ''
    selected: dict[str, Tensor] = {}
    for key, value in unwrapped:
        own = _without_wrapper(key.removeprefix(wanted))
        if not key.startswith(wanted) or own.split('.')[0] in HEADS:
            continue
        if own in selected:
            raise ValueError(f'{source} holds {own} twice, under different prefixes.')
        selected[own] = value
    return selected


def pad_kernels(
    weights: Mapping[str, Tensor], kernel_size: int
) -> tuple[dict[str, Tensor], list[str]]:
    """Zero-pad depthwise kernels smaller than ``kernel_size``, centred.

    A padded network computes the same function, because the convolutions' padding grows with their
    kernels.

    Args:
        weights: A backbone's state dict; kernels are ``(C, 1, k, k)`` under ``*.dwconv.weight``.
        kernel_size: The odd size to pad to; kernels of that size or larger are left as they are.

    Returns:
        The state dict with larger kernels, and the keys of those that were padded.
    """
    padded = dict(weights)
    keys = []
    for key, value in weights.items():
        if not (key.endswith(KERNEL_KEY) and isinstance(value, Tensor) and value.dim() == 4):
            continue
        margin, odd = divmod(kernel_size - value.shape[-1], 2)
        if margin > 0 and not odd:
            padded[key] = F.pad(value, (margin,) * 4)
            keys.append(key)
    return padded, keys


def _without_wrapper(key: str) -> str:
    """Drop what (nested) distributed wrappers put before a key."""
    while key.startswith('module.'):
        key = key.removeprefix('module.')
    return key


def _check_match(
    stored: Mapping[str, Tensor],
    fitted: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Raise one sentence with every kind of mismatch between a file and the backbone."""
    shared = [key for key in expected if key in fitted]
    unusable = [key for key in shared if not _is_plain(fitted[key])]
    missing = [key for key in expected if key not in fitted]
    unexpected = [key for key in fitted if key not in expected]
    misshapen = [
        key for key in shared if key not in unusable and fitted[key].shape != expected[key].shape
    ]
    found, wanted = _shapes(stored), _shapes(expected)
    problems = [
        f'{kind} {list_first(keys)}'
        for kind, keys in (
            ('missing', [f'{key} {wanted[key]}' for key in missing]),
            ('unexpected', [f'{key} {found.get(key, "")}'.rstrip() for key in unexpected]),
            (
                'of another shape',
                [f"{key} {found[key]} for the model's {wanted[key]}" for key in misshapen],
            ),
            ('not a dense real tensor', unusable),
        )
        if keys
    ]
    if problems:
        raise ValueError(
            f'{path} does not fit the model, and nothing was loaded: {"; ".join(problems)}; the '
            f'file holds {_describe(found)}, the model is {_describe(wanted)}; set `arch` and '
            '`kernel_size` to those of the file, or name the checkpoint of this network.'
        )


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_complex()
    )


def _shapes(weights: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in weights.items() if isinstance(value, Tensor)}


def _kernel_sizes(shapes: Shapes) -> set[int]:
    return {
        shape[-1] for key, shape in shapes.items() if key.endswith(KERNEL_KEY) and len(shape) == 4
    }


def _describe(shapes: Shapes) -> str:
    """Say in words which RevCol has these weights."""
    columns = _count('subnet{}.', shapes)
    channels = tuple(shapes.get(f'subnet0.alpha{level}', (0, 0))[1] for level in range(LEVELS))
    layers = tuple(_count(f'subnet0.level{level}.blocks.{{}}.', shapes) for level in range(LEVELS))
    if not columns or 0 in channels or 0 in layers:
        return f'no RevCol ({list_first(shapes)})' if shapes else 'nothing for a backbone'
    long_up = any('.fusion.up2.' in key for key in shapes)
    arch = Architecture(channels, layers, columns, long_up)
    name = next((repr(name) for name, known in VARIANTS.items() if known == arch), 'custom')
    kernels = ' and '.join(f'{size}x{size}' for size in sorted(_kernel_sizes(shapes)))
    branch = ', long_up' if long_up else ''
    return (
        f'RevCol {name} ({columns} columns, channels {channels}, layers {layers}{branch}, '
        f'{kernels} kernels)'
    )


def _count(pattern: str, keys: Iterable[str]) -> int:
    """Count the consecutive numbers from 0 that fill the gap of ``pattern`` in some key."""
    keys = list(keys)
    number = 0
    while any(key.startswith(pattern.format(number)) for key in keys):
        number += 1
    return number

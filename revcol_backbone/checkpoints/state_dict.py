"""What the state dict of a RevCol looks like: finding it in a file, fitting and checking it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.variants import LEVELS, VARIANTS, Architecture

# Classifiers and the reconstruction decoders of the pre-training.
HEADS = ('cls', 'cls_blocks', 'decoder_blocks')
_DEPTHWISE_KERNEL = re.compile(r'(.*\.)?subnet\d+\..*\.dwconv\.weight')


def select_backbone(
    weights: Mapping[str, Tensor], source: Path, prefix: str | None = None
) -> dict[str, Tensor]:
    """Pick the backbone's weights and give them the backbone's own keys.

    Args:
        weights: The state dict of a backbone, classifier, detector or segmentor.
        source: The file it comes from, for messages.
        prefix: What the wanted keys begin with. By default ``backbone.`` where the file has it.

    Raises:
        ValueError: No key has the prefix, or two keys name the same weight.
    """
    unwrapped = [(without_wrapper(str(key)), value) for key, value in weights.items()]
    if prefix:
        wanted = without_wrapper(prefix.rstrip('.') + '.')
        if not any(key.startswith(wanted) for key, _ in unwrapped):
            raise ValueError(
                f'{source} has no key with the prefix {prefix!r}: its keys are '
                f'{list_first(weights)}; correct or omit `prefix`.'
            )
    else:
        wanted = 'backbone.' if any(key.startswith('backbone.') for key, _ in unwrapped) else ''
    selected: dict[str, Tensor] = {}
    for key, value in unwrapped:
        own = without_wrapper(key.removeprefix(wanted))
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
        weights: A state dict with a backbone, under any prefix; its kernels are ``(C, 1, k, k)``.
        kernel_size: The odd size to pad to; kernels of that size or larger stay as they are.

    Returns:
        The state dict with larger kernels, and the keys of those that were padded.
    """
    padded = dict(weights)
    keys = []
    for key, value in weights.items():
        if not (_DEPTHWISE_KERNEL.fullmatch(key) and is_plain(value) and value.dim() == 4):
            continue
        margin, odd = divmod(kernel_size - value.shape[-1], 2)
        if margin > 0 and not odd:
            padded[key] = F.pad(value, (margin,) * 4)
            keys.append(key)
    return padded, keys


def check_match(
    stored: Mapping[str, Tensor],
    fitted: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Check that weights are exactly those of a backbone.

    Args:
        stored: The backbone's weights as the file holds them.
        fitted: The same after padding.
        expected: The backbone's state dict.
        path: The file, for the message.

    Raises:
        ValueError: They are not; the message has every kind of mismatch with the first keys.
    """
    shared = [key for key in expected if key in fitted]
    unusable = [key for key in shared if not is_plain(fitted[key])]
    missing = [key for key in expected if key not in fitted]
    unexpected = [key for key in fitted if key not in expected]
    misshapen = [
        key for key in shared if key not in unusable and fitted[key].shape != expected[key].shape
    ]
    found, wanted = shapes_of(stored), shapes_of(expected)
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
        remedy = 'name the checkpoint of this network.'
        if infer_architecture(expected) is not None:
            remedy = (
                f'the file holds {describe_network(stored)}, the model is '
                f'{describe_network(expected)}; set `arch` and `kernel_size` to those of the '
                f'file, or {remedy}'
            )
        raise ValueError(
            f'{path} does not fit the model, and nothing was loaded: {"; ".join(problems)}; '
            f'{remedy}'
        )
    check_finite(fitted, path)


def infer_architecture(weights: Mapping[str, object]) -> Architecture | None:
    """Tell from a backbone's own state dict which RevCol it is; ``None`` if it is none."""
    shapes = shapes_of(weights)
    alphas = [shapes.get(f'subnet0.alpha{level}', ()) for level in range(LEVELS)]
    layers = tuple(_count(f'subnet0.level{level}.blocks.{{}}.', shapes) for level in range(LEVELS))
    if 0 in layers or not all(len(shape) == 4 for shape in alphas):
        return None
    return Architecture(
        channels=tuple(shape[1] for shape in alphas),
        layers=layers,
        columns=_count('subnet{}.', shapes),
        long_up=any('.fusion.up2.' in key for key in shapes),
    )


def kernel_sizes(weights: Mapping[str, object]) -> list[int]:
    """The sizes of the depthwise kernels in a state dict, ascending."""
    return sorted(
        {
            shape[-1]
            for key, shape in shapes_of(weights).items()
            if _DEPTHWISE_KERNEL.fullmatch(key) and len(shape) == 4
        }
    )


def describe_network(weights: Mapping[str, object]) -> str:
    """Say in words which RevCol has these weights."""
    arch = infer_architecture(weights)
    if arch is None:
        return f'no RevCol ({list_first(weights)})' if weights else 'nothing for a backbone'
    name = next((repr(name) for name, known in VARIANTS.items() if known == arch), 'custom')
    branch = ', long_up' if arch.long_up else ''
    kernels = ' and '.join(f'{size}x{size}' for size in kernel_sizes(weights))
    return (
        f'RevCol {name} ({arch.columns} columns, channels {arch.channels}, layers {arch.layers}'
        f'{branch}, {kernels} kernels)'
    )


def shapes_of(weights: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a state dict; other entries are passed over."""
    return {key: tuple(value.shape) for key, value in weights.items() if isinstance(value, Tensor)}


def without_wrapper(name: str) -> str:
    """Remove the ``module.`` of (nested) distributed wrappers from the name of a weight or module.

    The name of the wrapped model itself, ``module``, becomes ``''``.
    """
    while name == 'module' or name.startswith('module.'):
        name = name.removeprefix('module').removeprefix('.')
    return name


def check_finite(weights: Mapping[str, object], source: Path) -> None:
    """Check that no tensor holds NaN or infinity; other entries are passed over.

    Raises:
        ValueError: Some do; ``source`` is for the message.
    """
    broken = [
        key
        for key, value in weights.items()
        if is_plain(value)
        and value.is_floating_point()
        and not value.is_meta
        # The types of 8 bits have no such test of their own.
        and not (value.float() if value.itemsize == 1 else value).isfinite().all()
    ]
    if broken:
        raise ValueError(
            f'{source} holds weights that are NaN or infinite ({list_first(broken)}), and nothing '
            'was loaded: the training that wrote it had diverged; give an earlier checkpoint.'
        )


def is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor that can be copied into a parameter without loss of meaning."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_complex()
    )


def _count(pattern: str, keys: Iterable[str]) -> int:
    """Count the consecutive numbers from 0 that fill the gap of ``pattern`` in some key."""
    keys = list(keys)
    number = 0
    while any(key.startswith(pattern.format(number)) for key in keys):
        number += 1
    return number

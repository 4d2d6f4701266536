"""Taking a timm model apart into a stem and four stages that can be called one after another."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

STAGES = 4
IMAGE_CHANNELS = 3
PROBE_SIZE = 64
PROBE_FREQUENCY = 12.9898
# Fused and plain attention round differently.
RELATIVE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Stages:
    """A timm model in parts.

    Args:
        stem: Everything before the first stage.
        stages: The four stages, each one step of 2 coarser than the one before.
        channels: Width of the stem's output, and of that of each stage.
        strides: Stride of each stage's output.
        channels_last: Whether the parts work on (B, H, W, C) instead of (B, C, H, W).
    """

    stem: nn.Sequential
    stages: tuple[nn.Sequential, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    channels_last: bool


def split_stages(name: str, **arguments: Any) -> Stages:
    """Create a timm model with new weights and take it apart.

    The parts are run one after another on one image and compared with the model's own features,
    so that a model that does more than to call them in turn is refused. On the meta device, which
    holds no values, only the shapes are compared. Attention that timm can run by
    ``scaled_dot_product_attention`` is switched to it.

    Args:
        name: Name of the model in timm.
        **arguments: Further arguments of ``timm.create_model``.

    Raises:
        ValueError: timm has no such model, or its features or parts do not fit; the message says
            why.
    """
    model = _create(name, arguments)
    names, channels, strides = _last_features(name, model)
    parts = _parts(name, model, names)
    was_training = model.training
    model.eval()
    image = _probe_image(model, arguments)
    features = _own_features(name, model, names, image)
    sizes = [tuple(side // stride for side in image.shape[-2:]) for stride in strides]
    channels_last = _is_channels_last(name, features, channels, sizes)
    for module in model.modules():
        if hasattr(module, 'fused_attn'):
            module.fused_attn = True
    stem = _check_parts(name, parts, image, features)
    model.train(was_training)
    widths = (stem.shape[-1 if channels_last else 1], *channels)
    return Stages(parts[0], tuple(parts[1:]), widths, strides, channels_last)


def _create(name: str, arguments: Mapping[str, Any]) -> Any:
    if not timm.is_model(name):
        close = difflib.get_close_matches(str(name), timm.list_models(), n=3)
        hint = f'did you mean {" or ".join(close)}?' if close else 'see timm.list_models().'
        raise ValueError(f'timm {timm.__version__} has no model {name!r}; {hint}')
    return timm.create_model(name, num_classes=0, **arguments)


def _last_features(name: str, model: Any) -> tuple[list[str], tuple[int, ...], tuple[int, ...]]:
    """Module names, widths and strides of the four coarsest features that timm lists."""
    info = getattr(model, 'feature_info', None) or []
    entries = info.get_dicts() if hasattr(info, 'get_dicts') else list(info)
    strides = tuple(entry['reduction'] for entry in entries)
    if len(entries) >= STAGES and len(set(strides)) == 1:
        raise ValueError(
            f'{name} keeps one resolution (stride {strides[0]}) in all of its blocks; columns '
            'of timm stages need four stages with a step of 2 between them. For columns of one '
            'resolution, build a ReversibleColumns from its blocks.'
        )
    last = strides[-STAGES:]
    if len(last) < STAGES or any(b != 2 * a for a, b in zip(last, last[1:], strict=False)):
        raise ValueError(
            f'{name} has features of the strides {list(strides)}; columns of timm stages need '
            'four stages with a step of 2 between them, such as 4, 8, 16 and 32.'
        )
    chosen = entries[-STAGES:]
    return [e['module'] for e in chosen], tuple(e['num_chs'] for e in chosen), last


def _parts(name: str, model: nn.Module, names: Sequence[str]) -> list[nn.Sequential]:
    """The modules before the first stage, and those of each stage."""
    units = dict(_units(model, '', set(names)))
    missing = [path for path in names if path not in units]
    if missing:
        raise ValueError(
            f'{name} cannot be taken apart: its feature {missing[0]!r} is not one of the modules '
            'that follow one another at the top of the model.'
        )
    paths, modules = list(units), list(units.values())
    ends = [paths.index(path) + 1 for path in names]
    starts = [ends[0] - 1, *ends[:-1]]
    parts = [modules[: starts[0]]]
    parts += [modules[start:end] for start, end in zip(starts, ends, strict=True)]
    return [nn.Sequential(*part) for part in parts]


def _units(module: nn.Module, prefix: str, names: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """The model's modules in order; a container of stages is replaced by what it contains."""
    for key, child in module.named_children():
        path = f'{prefix}{key}'
        holds_stages = any(name.startswith(f'{path}.') for name in names)
        if holds_stages and path not in names and isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from _units(child, f'{path}.', names)
        else:
            yield path, child


def _own_features(name: str, model: Any, names: Sequence[str], image: Tensor) -> list[Tensor]:
    """What the named modules give when the model itself runs on an image."""
    found: dict[str, Any] = {}
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda _, __, output, path=path: found.update({path: output})
        )
        for path in names
    ]
    try:
        with torch.no_grad():
            model.forward_features(image)
    finally:
        for handle in handles:
            handle.remove()
    for path in names:
        if not isinstance(found.get(path), Tensor):
            raise ValueError(
                f'{name} cannot be taken apart: its feature {path!r} is not one tensor.'
            )
    return [found[path] for path in names]


def _check_parts(
    name: str, parts: Sequence[nn.Module], image: Tensor, expected: Sequence[Tensor]
) -> Tensor:
    """Run the parts in turn, and compare with the model's own features; returns the stem's."""
    with torch.no_grad():
        stem = x = parts[0](image)
        for index, (stage, own) in enumerate(zip(parts[1:], expected, strict=True)):
            before = x
            version = before._version
            try:
                x = stage(x)
            except (RuntimeError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(
                    f'{name} cannot be taken apart: stage {index} does not run on the output of '
                    f'the one before ({error}).'
                ) from error
            if before._version != version:
                raise ValueError(
                    f'{name} cannot be taken apart: stage {index} writes into its input.'
                )
            if x.shape != own.shape or not (x.is_meta or _is_close(x, own)):
                raise ValueError(
                    f'{name} cannot be taken apart: run in turn, its modules do not give its own '
                    f'features of stage {index}.'
                )
    return stem


def _is_close(found: Tensor, expected: Tensor) -> bool:
    scale = expected.abs().max().item()
    return torch.allclose(found, expected, rtol=0, atol=RELATIVE_TOLERANCE * scale)


def _is_channels_last(
    name: str,
    features: Sequence[Tensor],
    channels: Sequence[int],
    sizes: Sequence[tuple[int, ...]],
) -> bool:
    """Where the channels are, from the shapes of features of one image."""
    shapes = [tuple(feature.shape) for feature in features]
    if shapes == [(1, width, *size) for width, size in zip(channels, sizes, strict=True)]:
        return False
    if shapes == [(1, *size, width) for width, size in zip(channels, sizes, strict=True)]:
        return True
    raise ValueError(
        f'{name} has features of the shapes {shapes}; columns of timm stages need maps, '
        '(B, C, H, W) or (B, H, W, C), of the strides that timm lists.'
    )


def _probe_image(model: Any, arguments: Mapping[str, Any]) -> Tensor:
    """An image of the size that the model is built for, or of a small one if it takes any."""
    config = model.pretrained_cfg
    size = config['input_size'][-1] if config.get('fixed_input_size') else PROBE_SIZE
    size = arguments.get('img_size', size)
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    parameter = next(model.parameters())
    shape = (1, arguments.get('in_chans', IMAGE_CHANNELS), height, width)
    # Drawn without a generator, so that building a network draws what timm draws alone.
    values = torch.arange(math.prod(shape), device=parameter.device, dtype=parameter.dtype)
    return values.mul(PROBE_FREQUENCY).sin().view(shape)

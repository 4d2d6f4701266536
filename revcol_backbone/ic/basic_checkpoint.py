"""Loading checkpoints into an IC-ResNet: its own, or an ordinary ResNet's as the basic model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log
from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_torchvision_models,
)
from torch import Tensor, nn

from revcol_backbone.checkpoints.pretrained import select_backbone
from revcol_backbone.checkpoints.reading import list_first, read_weights
from revcol_backbone.checkpoints.sources import locate_checkpoint
from revcol_backbone.checkpoints.state_dict import is_plain
from revcol_backbone.ic.conv import ICConv2d

COLLISION = ('collision_weight', 'collision_bias', 'collision_gain')
# What classifiers have beside the backbone: torchvision's and timm's, and that of OpenMMLab.
CLASSIFIER = ('fc', 'head')
SCHEMES = {
    'torchvision://': get_torchvision_models,
    'open-mmlab://': get_external_models,
    'openmmlab://': get_external_models,
}


def load_basic(backbone: nn.Module, checkpoint: str, prefix: str | None = None) -> None:
    """Load the weights of an IC-ResNet, or of a ResNet; nothing is changed unless all of them fit.

    Of an ordinary ResNet the collision parameters keep their start, which the log says; where that
    is the mean of the weights, it is the mean of the loaded ones.

    Args:
        backbone: An IC-ResNet, on any device but ``meta``.
        checkpoint: A path, an ``http(s)`` address that is downloaded once, or a name such as
            ``torchvision://resnet50`` or ``open-mmlab://resnet50_v1c``. Heads may lie beside the
            backbone.
        prefix: The prefix of the backbone's keys. By default ``backbone.`` where the file has it.

    Raises:
        ValueError: The file is not a checkpoint, or holds another network or other units.
        FileNotFoundError, ConnectionError: As :func:`~revcol_backbone.load_pretrained`.
    """
    path = locate_checkpoint(_resolve(checkpoint))
    weights = read_weights(path)
    stored = {
        key: value
        for key, value in select_backbone(weights, path, prefix).items()
        if key.split('.')[0] not in CLASSIFIER
    }
    expected = backbone.state_dict()
    if any(tensor.is_meta for tensor in expected.values()):
        raise ValueError(
            f'{checkpoint} cannot be loaded into a backbone on the meta device, which holds no '
            'values; call `backbone.to_empty(device=...)` first.'
        )
    own = [key for key in expected if _is_collision(key)]
    is_basic = not any(map(_is_collision, stored))
    # Files from before PyTorch 0.4.1 have no counters of batches.
    optional = {key for key in expected if key.endswith('.num_batches_tracked')}
    _check(stored, expected, optional | set(own if is_basic else ()), path)

    backbone.load_state_dict(stored, strict=False)  # whole, as was just checked
    print_log(
        f'loaded {len(stored)} tensors of {path} into {type(backbone).__name__}, left out '
        f'{len(weights) - len(stored)} of heads and other parts',
        logger='current',
    )
    if is_basic:
        for module in backbone.modules():
            if isinstance(module, ICConv2d):
                module.reset_collision()
        print_log(
            f'{path} holds a basic model: the {len(own)} collision parameters keep their start',
            logger='current',
        )


def _resolve(checkpoint: str) -> str:
    """Turn the name of a checkpoint into its address; paths and addresses stay."""
    for scheme, models in SCHEMES.items():
        if checkpoint.startswith(scheme):
            name, known = checkpoint.removeprefix(scheme), models()
            name = get_deprecated_model_names().get(name, name)
            if name not in known:
                raise ValueError(
                    f'{checkpoint} is not a known checkpoint; give a path, an address or a name '
                    f'such as {scheme}resnet50.'
                )
            return known[name]
    return checkpoint


def _check(
    stored: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    optional: set[str],
    path: Path,
) -> None:
    missing = [key for key in expected if key not in stored and key not in optional]
    unexpected = [key for key in stored if key not in expected]
    shared = [key for key in expected if key in stored]
    unusable = [key for key in shared if not is_plain(stored[key])]
    misshapen = [
        f"{key} {tuple(stored[key].shape)} for the model's {tuple(expected[key].shape)}"
        for key in shared
        if key not in unusable and stored[key].shape != expected[key].shape
    ]
    problems = {
        'missing': missing,
        'unexpected': unexpected,
        'of another shape': misshapen,
        'not a dense real tensor': unusable,
    }
    if not any(problems.values()):
        return
    found = '; '.join(f'{kind} {list_first(keys)}' for kind, keys in problems.items() if keys)
    raise ValueError(
        f'{path} does not fit the model, and nothing was loaded: {found}; '
        f'{_advise(stored, expected)}'
    )


def _advise(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    units = {key.rpartition('.')[0] for key in stored if _is_collision(key)}
    own = {key.rpartition('.')[0] for key in expected if _is_collision(key)}
    if units and units != own:
        return (
            f'it has {len(units)} units with a collision term and the model {len(own)}: set '
            '`depth` and `ic_convolutions` to those of the file.'
        )
    gains = [any(key.endswith('.collision_gain') for key in keys) for keys in (stored, expected)]
    if units and gains[0] != gains[1]:
        return f'set collision_gain={gains[0]}, as in the file.'
    blocks = _blocks(stored)
    if blocks and blocks != _blocks(expected):
        return (
            f'it has {blocks} blocks in its stages and the model {_blocks(expected)}: set `depth`.'
        )
    return 'name the checkpoint of such a ResNet.'


def _blocks(keys: Mapping[str, Tensor]) -> tuple[int, ...]:
    found = {match.groups() for key in keys if (match := re.match(r'layer(\d)\.(\d+)\.', key))}
    stages = sorted({stage for stage, _ in found})
    return tuple(sum(stage == other for other, _ in found) for stage in stages)


def _is_collision(key: str) -> bool:
    return key.rpartition('.')[2] in COLLISION

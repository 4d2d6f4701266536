"""Loading published checkpoints into a RedNet, whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mmengine.model import BaseModule
from torch import Tensor

from revcol_backbone.checkpoints.pretrained import load_pretrained, select_backbone
from revcol_backbone.checkpoints.reading import list_first, read_weights
from revcol_backbone.checkpoints.sources import locate_checkpoint
from revcol_backbone.involution.bottleneck import BLOCKS
from revcol_backbone.involution.involution import Involution

STEM_KEY = 'stem.1.conv2.conv.weight'


def load_rednet(backbone: BaseModule, checkpoint: str, prefix: str | None = None) -> None:
    """Load the backbone weights of a checkpoint; nothing is changed unless all of them fit.

    Takes the published files as they are: a classifier, detector or segmentor, or a backbone alone.

    Args:
        backbone: The :class:`~revcol_backbone.involution.RedNet` to load into.
        checkpoint: A path, or an ``http(s)`` address that is downloaded once.
        prefix: The prefix of the backbone's keys. By default ``backbone.`` where the file has it.

    Raises:
        ValueError: The file is incomplete or belongs to another network; where a RedNet fits it,
            the message names its arguments.
        FileNotFoundError, ConnectionError: As :func:`~revcol_backbone.load_pretrained`.
    """
    path = locate_checkpoint(checkpoint)
    stored = select_backbone(read_weights(path), path, prefix)
    check_stem(backbone.stem[1], stored)
    _check_depth(backbone.depth, stored, str(path))
    load_pretrained(backbone, checkpoint, prefix)


def check_stem(involution: Involution, weights: Mapping[str, Tensor], prefix: str = '') -> None:
    """Refuse weights whose stem involution has another kernel size than the network's.

    A loader that skips what does not fit would leave the stem at its random weights, and
    ``frozen_stages`` would keep it there.

    Args:
        involution: The stem's, to load into.
        weights: A state dict.
        prefix: What stands before the keys of the backbone in it.

    Raises:
        ValueError: The kernel sizes differ; the message names the ``stem_kernel_size`` that fits.
    """
    stem = weights.get(prefix + STEM_KEY)
    built_shape = involution.get_parameter('conv2.conv.weight').shape
    if not isinstance(stem, Tensor) or stem.shape == built_shape:
        return
    stored, built = math.isqrt(stem.shape[0] // involution.groups), involution.kernel_size
    raise ValueError(
        f'The weights hold a {stored}x{stored} involution in the stem, this RedNet a '
        f'{built}x{built} one; build it with stem_kernel_size={stored}.'
    )


def _check_depth(depth: int, weights: Mapping[str, Tensor], path: str) -> None:
    if STEM_KEY not in weights:
        raise ValueError(
            f'{path} holds no RedNet: its keys are {list_first(weights)}; name the checkpoint of '
            f'a RedNet-{depth}.'
        )
    stages = range(1, len(BLOCKS[depth]) + 1)
    found = tuple(_count_blocks(weights, f'layer{stage}.') for stage in stages)
    if found != BLOCKS[depth]:
        fitting = next((depth for depth, blocks in BLOCKS.items() if blocks == found), None)
        fix = f'build it with depth={fitting}' if fitting else 'name the checkpoint of this network'
        raise ValueError(
            f'{path} holds a RedNet with {found} blocks in its stages, RedNet-{depth} has '
            f'{BLOCKS[depth]}; {fix}.'
        )


def _count_blocks(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.split('.')[1] for key in weights if key.startswith(prefix)})

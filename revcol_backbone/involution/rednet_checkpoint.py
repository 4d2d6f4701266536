"""Loading published checkpoints into a RedNet, whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from revcol_backbone.checkpoints.pretrained import load_pretrained, select_backbone
from revcol_backbone.checkpoints.reading import list_first, read_weights
from revcol_backbone.checkpoints.sources import locate_checkpoint

if TYPE_CHECKING:
    from revcol_backbone.involution.rednet import RedNet

STEM_KEY = 'stem.1.conv2.conv.weight'


def load_rednet(backbone: RedNet, checkpoint: str, prefix: str | None = None) -> None:
    """Load the backbone weights of a checkpoint; nothing is changed unless all of them fit.

    Takes the published files as they are: a classifier, detector or segmentor, or a backbone alone.

    Args:
        backbone: The network to load into.
        checkpoint: A path, or an ``http(s)`` address that is downloaded once.
        prefix: The prefix of the backbone's keys. By default ``backbone.`` where the file has it.

    Raises:
        ValueError: The file belongs to another network; the message names the arguments of
            :class:`RedNet` that fit it.
        FileNotFoundError, ConnectionError: As :func:`~revcol_backbone.load_pretrained`.
    """
    path = locate_checkpoint(checkpoint)
    stored = select_backbone(read_weights(path), path, prefix)
    check_stem(backbone, stored)
    _check_depth(backbone, stored, str(path))
    load_pretrained(backbone, checkpoint, prefix)


def check_stem(backbone: RedNet, weights: Mapping[str, Tensor], prefix: str = '') -> None:
    """Refuse weights whose stem involution has another kernel size than the network's.

    The published classification models have a 3x3 involution there, the published detectors a 7x7
    one. A loader that skips what does not fit would leave the stem at its random weights, and
    ``frozen_stages`` would keep it there.

    Args:
        backbone: The network to load into.
        weights: A state dict.
        prefix: What stands before the keys of the backbone in it.

    Raises:
        ValueError: The kernel sizes differ; the message names the ``stem_kernel_size`` that fits.
    """
    stem = weights.get(prefix + STEM_KEY)
    expected = backbone.get_parameter(STEM_KEY)
    if not isinstance(stem, Tensor) or stem.shape == expected.shape:
        return
    size = math.isqrt(stem.shape[0] // backbone.stem[1].groups)
    raise ValueError(
        f'The weights hold a {size}x{size} involution in the stem, this RedNet a '
        f'{backbone.stem_kernel_size}x{backbone.stem_kernel_size} one; build it with '
        f'stem_kernel_size={size}.'
    )


def _check_depth(backbone: RedNet, weights: Mapping[str, Tensor], path: str) -> None:
    from revcol_backbone.involution.rednet import BLOCKS

    if STEM_KEY not in weights:
        raise ValueError(
            f'{path} holds no RedNet: its keys are {list_first(weights)}; name the checkpoint of '
            f'a RedNet-{backbone.depth}.'
        )
    stages = range(1, len(BLOCKS[backbone.depth]) + 1)
    found = tuple(_count_blocks(weights, f'layer{stage}.') for stage in stages)
    if found != BLOCKS[backbone.depth]:
        depth = next((depth for depth, blocks in BLOCKS.items() if blocks == found), None)
        fix = f'build it with depth={depth}' if depth else 'name the checkpoint of this network'
        raise ValueError(
            f'{path} holds a RedNet with {found} blocks in its stages, RedNet-{backbone.depth} '
            f'has {BLOCKS[backbone.depth]}; {fix}.'
        )


def _count_blocks(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.split('.')[1] for key in weights if key.startswith(prefix)})

"""A RevCol is recognized by its state dict alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from revcol_backbone import VARIANTS, RevCol
from revcol_backbone.checkpoints.state_dict import (
    describe_network,
    infer_architecture,
    kernel_sizes,
    pad_kernels,
    select_backbone,
)
from tests.golden import TOY_ARCHITECTURES


@pytest.fixture(params=TOY_ARCHITECTURES.values(), ids=TOY_ARCHITECTURES)
def toy(request):
    return RevCol(**request.param)


@pytest.mark.parametrize('name', VARIANTS)
def test_every_variant_is_told_from_its_keys_and_shapes(name):
    with torch.device('meta'):
        weights = RevCol(name, kernel_size=5).state_dict()
    assert infer_architecture(weights) == VARIANTS[name]
    assert kernel_sizes(weights) == [5]
    assert describe_network(weights).startswith(f'RevCol {name!r} (')


def test_own_architectures_are_told_from_their_keys_and_shapes(toy):
    assert infer_architecture(toy.state_dict()) == toy.arch
    assert describe_network(toy.state_dict()).startswith(f'RevCol custom ({toy.columns} columns, ')


@pytest.mark.parametrize(
    'weights',
    [
        {},
        {'layer1.0.conv1.weight': torch.ones(1)},
        {f'subnet0.alpha{level}': torch.ones(1) for level in range(4)}
        | {f'subnet0.level{level}.blocks.0.gamma': torch.ones(1) for level in range(4)},
    ],
)
def test_other_networks_are_told_apart(weights):
    assert infer_architecture(weights) is None


def test_selecting_keeps_the_tensors_themselves(toy):
    weights = toy.state_dict()
    detector = {f'backbone.{key}': value for key, value in weights.items()}
    selected = select_backbone(detector | {'neck.weight': torch.ones(1)}, Path('file.pth'))
    assert list(selected) == list(weights)
    assert all(selected[key] is weights[key] for key in weights)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
def test_padding_touches_the_depthwise_kernels_of_a_backbone_only(toy, prefix):
    weights = {f'{prefix}{key}': value for key, value in toy.state_dict().items()}
    weights['decoder_blocks.0.dwconv.weight'] = torch.ones(8, 1, 3, 3)
    padded, keys = pad_kernels(weights, 9)
    assert keys == [key for key in weights if 'subnet' in key and key.endswith('.dwconv.weight')]
    for key, value in weights.items():
        if key in keys:
            margin = (9 - toy.kernel_size) // 2
            inner = padded[key][..., margin : 9 - margin, margin : 9 - margin]
            assert padded[key].shape == (*value.shape[:2], 9, 9)
            assert torch.equal(inner, value)
            assert padded[key].count_nonzero() == value.count_nonzero()
        else:
            assert padded[key] is value

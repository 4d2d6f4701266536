"""Batch norms folded into units: the same function, for scales of either sign."""

from __future__ import annotations

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from revcol_backbone.ic import ICConv2d
from revcol_backbone.ic.folding import FoldedICConv2d, fold_batch_norms
from revcol_backbone.ic.leaky import collide_in_convolution
from revcol_backbone.onednn import fusable_dtype
from tests.ic.textbook import randomize

pytestmark = pytest.mark.on_device


def train_like(norm: nn.BatchNorm2d) -> None:
    """Statistics and weights as of training; every third scale is negative, one is 0."""
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.3, 3)
        if norm.affine:
            norm.weight.uniform_(0.3, 2)
            norm.weight[::3] *= -1
            norm.weight[1] = 0
            norm.bias.normal_()


@pytest.mark.parametrize('gain', [False, True])
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('spread', [0.02, 0.3, 1.0])
@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('padding', [dict(padding=1), dict(padding=2, padding_mode='reflect')])
def test_the_folded_unit_is_the_same_function(
    gain, bias, affine, dtype, spread, groups, memory_format, padding
):
    torch.manual_seed(0)
    unit = ICConv2d(
        16, 32, 3, 2, groups=groups, bias=bias, dtype=dtype, collision_start='mean',
        collision_gain=gain, **padding,
    )  # fmt: skip
    unit = randomize(unit, spread)
    block = nn.Sequential(unit, nn.BatchNorm2d(32, affine=affine, dtype=dtype)).eval()
    train_like(block[1])
    x = torch.randn(2, 16, 13, 11, dtype=dtype).contiguous(memory_format=memory_format)
    with torch.no_grad():
        expected = block(x)
        assert fold_batch_norms(block) == 1
        found = block(x)
    assert type(block[0]) is FoldedICConv2d
    assert type(block[1]) is nn.Identity
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    torch.testing.assert_close(
        found, expected, rtol=0, atol=tolerance * float(expected.abs().max())
    )


@pytest.mark.parametrize(('spread', 'is_exact'), [(0.01, True), (0.3, False)])
def test_a_small_w_goes_into_the_convolution_and_a_large_one_does_not(spread, is_exact):
    torch.manual_seed(0)
    unit = randomize(ICConv2d(16, 32, 3, padding=1, collision_start=0), spread)
    block = nn.Sequential(unit, nn.BatchNorm2d(32)).eval()
    fold_batch_norms(block)
    folded, x = block[0], torch.randn(2, 16, 13, 11)
    sums = torch.zeros(2, 1, 13, 11)
    parameters = (folded.conv, folded.collision_weight, folded.floor, folded.ceiling)
    with torch.no_grad():
        found = collide_in_convolution(x, sums, *parameters)
    assert (found is not None) == (is_exact and fusable_dtype(x) is torch.float32)


def test_only_a_norm_that_follows_a_unit_is_folded():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4),
        nn.Sequential(ICConv2d(4, 4, 3), nn.BatchNorm2d(4)),
        nn.BatchNorm2d(4),
        ICConv2d(4, 4, 3),
        nn.BatchNorm2d(4, track_running_stats=False),
    ).eval()
    assert fold_batch_norms(model) == 1
    kinds = [type(module).__name__ for module in model]
    assert kinds == [
        'Conv2d',
        'BatchNorm2d',
        'Sequential',
        'BatchNorm2d',
        'ICConv2d',
        'BatchNorm2d',
    ]


def test_convolution_modules_of_mmcv_fold():
    torch.manual_seed(0)
    cfg = dict(type='ICConv2d', collision_start='mean')
    module = ConvModule(4, 8, 3, conv_cfg=cfg, norm_cfg=dict(type='BN')).eval()
    train_like(module.bn)
    x = torch.randn(1, 4, 7, 7)
    with torch.no_grad():
        expected = module(x)
        assert fold_batch_norms(module) == 1
        torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)

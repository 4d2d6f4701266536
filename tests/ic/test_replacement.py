"""Replacing the convolutions of models: all that are chosen, or nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from torch import nn
from torchvision.models import resnet18, resnet50

from revcol_backbone.ic import ICConv2d, replace_convolutions


def test_torchvision_s_resnets_lose_their_3x3_convolutions():
    with torch.device('meta'):
        bottlenecks, basic = resnet50(), resnet18()
    names = replace_convolutions(bottlenecks)
    assert len(names) == 16
    assert all(name.endswith('conv2') for name in names)
    assert len(replace_convolutions(basic)) == 16
    units = [module for module in bottlenecks.modules() if isinstance(module, ICConv2d)]
    assert sum(unit.collision_weight.numel() for unit in units) == 3776


def test_the_parameters_and_their_settings_stay():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 2, 2, 2, padding_mode='reflect')).double().eval()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model)
    weight, bias = model[0].weight, model[0].bias
    assert replace_convolutions(model, collision_gain=True) == ['0']
    unit = model[0]
    assert unit.weight is weight
    assert unit.bias is bias
    assert not unit.training
    assert not unit.collision_weight.requires_grad
    assert unit.collision_weight.dtype is torch.double
    x = torch.randn(2, 4, 9, 9, dtype=torch.double)
    assert torch.equal(model(x), before(x))


def test_where_chooses():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 5))
    names = replace_convolutions(model, lambda name, conv: name == '2', collision_start='mean')
    assert names == ['2']
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.Conv2d, ICConv2d]
    torch.testing.assert_close(model[2].collision_weight, model[2].weight.mean((1, 2, 3)))


def test_a_convolution_in_two_places_stays_one():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    assert replace_convolutions(model) == ['0', '2']
    assert model[0] is model[2]


def test_other_kinds_of_convolution_are_left_alone():
    model = nn.Sequential(ConvWS2d(3, 4, 3), nn.Conv2d(4, 4, 3), ICConv2d(4, 4, 3))
    assert replace_convolutions(model) == ['1']
    assert type(model[0]) is ConvWS2d


@pytest.mark.parametrize(
    ('model', 'arguments', 'message'),
    [
        (nn.Sequential(nn.Linear(3, 3)), {}, 'found no nn.Conv2d in Sequential'),
        (nn.Sequential(nn.Conv2d(3, 3, 1)), {}, 'found 1 nn.Conv2d, none of which `where` chooses'),
        (nn.Conv2d(3, 3, 3), {}, 'call ICConv2d.from_conv'),
        (nn.Sequential(nn.Conv2d(3, 3, 3)), dict(collision_start='x'), "collision_start='x'"),
    ],
)
def test_a_model_with_nothing_to_replace_is_an_error(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        replace_convolutions(model, **arguments)


def test_nothing_is_changed_where_one_convolution_cannot_be_replaced():
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    model[1].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match='1 has hooks, which would be lost; remove them'):
        replace_convolutions(model)
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.Conv2d]

"""The share of active collision terms, counted by hand and at the starts that the page compares."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from revcol_backbone.ic import ICConv2d, measure_active_shares

pytestmark = pytest.mark.on_device


def test_the_share_is_that_of_the_outputs_above_zero():
    unit = ICConv2d(2, 1, 1, bias=False, collision_start=0.0)
    unit.weight.data = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    model = nn.Sequential(unit)
    x = torch.zeros(1, 2, 2, 2)
    x[0, 0] = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    assert measure_active_shares(model, lambda: model(x)) == {'0': 0.5}
    unit.collision_bias.data.fill_(1.5)
    assert measure_active_shares(model, lambda: model(x)) == {'0': 0.75}


def test_behind_a_relu_the_start_of_the_physics_is_dead_and_the_mean_half_alive():
    torch.manual_seed(0)
    x = torch.randn(2, 64, 14, 14).relu()
    shares = {}
    for start in (1.0, 0.0, 'mean'):
        model = nn.Sequential(ICConv2d(64, 64, 3, collision_start=start))
        nn.init.kaiming_normal_(model[0].weight, mode='fan_out')
        model[0].reset_collision()
        (shares[start],) = measure_active_shares(model, lambda model=model: model(x)).values()
    assert shares[1.0] == 0
    assert 0.3 < shares[0.0] < 0.7
    assert 0.4 < shares['mean'] < 0.6


def test_a_model_without_units_is_an_error():
    with pytest.raises(ValueError, match='Conv2d has no ICConv2d'):
        measure_active_shares(nn.Conv2d(1, 1, 1), lambda: None)

"""A column by itself: what it draws, and what it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from revcol_backbone import Column, RevCol

pytestmark = pytest.mark.on_device

SMALL = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 3}


def test_drop_path_rises_linearly_and_leaves_the_mean() -> None:
    model = RevCol(SMALL, drop_path_rate=0.4).train()
    rates = [0.0, 0.1, 0.2, 0.3, 0.4]
    assert sum(model.subnet2.drop_path_rates, ()) == pytest.approx(rates)
    torch.manual_seed(0)
    factors = [f for level in model.subnet0.draw_drop_path(torch.empty(20_000)) for f in level]
    assert factors[0] is None
    for rate, factor in zip(rates[1:], factors[1:], strict=True):
        assert torch.unique(factor).tolist() == pytest.approx([0, 1 / (1 - rate)])
        assert factor.mean().item() == pytest.approx(1, abs=0.03)
    assert model.eval().subnet0.draw_drop_path(torch.empty(4)) is None


def test_a_column_wants_one_alpha_shape_for_every_level() -> None:
    with pytest.raises(ValueError, match='given 2 levels, 1 alpha_shapes and 2 drop_path_rates'):
        Column([nn.Identity(), nn.Identity()], [(4,)])

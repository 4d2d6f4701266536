"""Columns and what they are made of; any block can be handed in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from revcol_backbone import RevCol
from revcol_backbone.shortcut import ALPHA_MIN, add_shortcut, invert_shortcut
from tests.golden import fill, image

pytestmark = pytest.mark.on_device

SMALL = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 3}


class Bottleneck(nn.Module):
    """A block that someone else wrote: two plain convolutions, no layer scale."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 2, 1, bias=False)
        self.second = nn.Conv2d(2, channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        branch = self.second(self.first(x).relu())
        return x + (branch if keep is None else branch * keep.view(-1, 1, 1, 1))


@pytest.mark.parametrize('alpha', [0.5, -0.7, 1e-3, 0.0, -1e-9, 30.0])
def test_the_inverse_gives_back_the_level_of_the_column_before(alpha: float) -> None:
    fused, previous = image((2, 4, 3, 5)).double(), image((2, 4, 3, 5), 'previous').double()
    alpha = torch.full((1, 4, 1, 1), alpha, dtype=torch.float64)
    output = add_shortcut(fused, alpha, previous)
    torch.testing.assert_close(invert_shortcut(output, fused, alpha), previous)
    assert (output - fused).abs().min() >= 0.99 * ALPHA_MIN * previous.abs().min()


@pytest.mark.parametrize('save_memory', [False, True])
def test_another_block_can_be_handed_in(save_memory: bool) -> None:
    found = []
    for saves in (save_memory, False):
        model = RevCol(SMALL, drop_path_rate=0.4, save_memory=saves, block=Bottleneck)
        fill(model).double().train()
        torch.manual_seed(0)
        outputs = model(image((2, 3, 64, 48)).double())
        sum(output.square().sum() for output in outputs).backward()
        found.append([*outputs, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert not any('gamma' in key for key in model.state_dict())


def test_another_block_is_deployed_as_it_is() -> None:
    model, x = fill(RevCol(SMALL, block=Bottleneck)).eval(), image((1, 3, 64, 64))
    expected = model(x)
    model.switch_to_deploy()
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


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


def test_a_dropped_sample_skips_the_block() -> None:
    block = fill(RevCol(SMALL)).subnet0.level0.blocks[0]
    x = image((2, 4, 8, 8))
    out = block(x, torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(out[0], x[0], rtol=0, atol=0)
    torch.testing.assert_close(out[1], x[1] + 2 * (block(x)[1] - x[1]))

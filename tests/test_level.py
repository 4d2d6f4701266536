"""RevCol's levels; any block can be handed in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from revcol_backbone import RevCol
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


def test_a_dropped_sample_skips_the_block() -> None:
    block = fill(RevCol(SMALL)).subnet0.level0.blocks[0]
    x = image((2, 4, 8, 8))
    out = block(x, torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(out[0], x[0], rtol=0, atol=0)
    torch.testing.assert_close(out[1], x[1] + 2 * (block(x)[1] - x[1]))

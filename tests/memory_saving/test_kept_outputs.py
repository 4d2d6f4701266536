"""Outputs kept to spare work: which ones, what that spares, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from revcol_backbone import RevCol
from revcol_backbone.level import Block
from revcol_backbone.memory_saving import stretch
from revcol_backbone.memory_saving.kept_outputs import choose_outputs
from tests.golden import fill, image

pytestmark = pytest.mark.on_device

TINY = {'channels': (64, 128, 256, 512), 'layers': (2, 2, 4, 2)}
SMALL = {'channels': (4, 8, 12, 16), 'layers': (2, 2, 3, 2), 'columns': 4}


class CountProducts(TorchDispatchMode):
    """Counts the multiplications of matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        if func.overloadpacket in (aten.mm, aten.addmm, aten.addmm_):
            left, right = [value for value in args if isinstance(value, Tensor)][-2:]
            self.count += left.shape[0] * left.shape[1] * right.shape[1]
        return func(*args, **(kwargs or {}))


def products_of_a_step(columns: int, **arguments) -> int:
    # The meta device takes the same steps on shapes alone.
    with torch.device('meta'):
        model = RevCol({**TINY, 'columns': columns}, **arguments)
        x = torch.empty(1, 3, 448, 672)
    # The first step also checks that the levels can be computed twice.
    sum(output.mean() for output in model(x)).backward()
    with CountProducts() as products:
        sum(output.mean() for output in model(x)).backward()
    return products.count


@pytest.mark.parametrize(('columns', 'bound'), [(4, 1.11), (8, 1.18), (12, 1.21)])
def test_a_step_takes_few_more_products_than_plain_training(columns: int, bound: float) -> None:
    plain = products_of_a_step(columns)
    assert products_of_a_step(columns, save_memory=True) / plain < bound
    # Without the kept outputs and the last column's graph.
    assert products_of_a_step(columns, save_memory=True, anchor_every=0) / plain > 1.25


def test_the_smallest_are_kept_first_and_the_budget_is_obeyed() -> None:
    sizes, chains = (80, 40, 20, 10), (2, 2, 4, 2)
    top_only = choose_outputs((0, 1, 2), sizes, chains, budget=50)
    assert top_only.blocks == {(0, 3, -2), (1, 3, -2), (2, 3, -2)}
    assert top_only.levels == {(0, 3), (1, 3)}
    more = choose_outputs((0, 1, 2), sizes, chains, budget=50 + 9 * 20 + 2 * 20 + 40)
    assert {key[:2] for key in more.blocks - top_only.blocks} == {(0, 2), (1, 2), (2, 2), (0, 1)}
    assert more.levels - top_only.levels == {(0, 2), (1, 2)}


def test_levels_of_other_networks_keep_nothing() -> None:
    nothing = choose_outputs((0, 1, 2), (80, 40), (0, 0), budget=1000)
    assert not nothing.blocks
    assert not nothing.levels


class Doubling(Block):
    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return 2 * super().forward(x, keep)


class Renamed(nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.block(x, keep)


def plain_blocks(model: RevCol) -> None:
    pass


def first_block_of_another_class(model: RevCol) -> None:
    model.subnet1.level2.blocks[0] = fill(Doubling(12, 3)).double()


def middle_block_wrapped(model: RevCol) -> None:
    model.subnet1.level2.blocks[1] = Renamed(model.subnet1.level2.blocks[1])


def one_block_twice(model: RevCol) -> None:
    model.subnet2.level2.blocks[0] = model.subnet2.level2.blocks[1]


@pytest.mark.parametrize('budget', [0, 2, 1000])
@pytest.mark.parametrize(
    'change', [plain_blocks, first_block_of_another_class, middle_block_wrapped, one_block_twice]
)
def test_gradients_are_those_of_plain_training_whatever_is_kept(
    monkeypatch, budget: float, change
) -> None:
    monkeypatch.setattr(stretch, 'BUDGET', budget)
    found = []
    for save_memory in (False, True):
        model = fill(RevCol(SMALL, save_memory=save_memory, drop_path_rate=0.3)).double().train()
        change(model)
        torch.manual_seed(1)
        sum(output.square().mean() for output in model(image((2, 3, 48, 48)).double())).backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-7, atol=1e-10, msg=name)

"""What hangs on columns, or is inside of them: as in plain training, or refused in a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from revcol_backbone import RevCol
from revcol_backbone.level import Block, Level
from revcol_backbone.memory_saving.reversible import run_reversibly
from tests.golden import fill, image

pytestmark = pytest.mark.on_device

ARCH = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 4}


def build(save_memory: bool, **arguments) -> RevCol:
    return fill(RevCol(ARCH, save_memory=save_memory, **arguments)).double().train()


def images() -> Tensor:
    return image((2, 3, 48, 48)).double()


def gradients(model: RevCol, extra=lambda: 0) -> dict[str, Tensor]:
    torch.manual_seed(0)
    total = sum(output.square().mean() for output in model(images()))
    (total + extra()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_trains_as_plainly(prepare=lambda model: lambda: 0, **arguments) -> None:
    """Compare parameters' gradients and buffers after one step in both modes."""
    found = []
    for save_memory in (False, True):
        model = build(save_memory, **arguments)
        extra = prepare(model)
        found.append({**gradients(model, extra or (lambda: 0)), **dict(model.named_buffers())})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-6, atol=1e-9, msg=name)


def test_a_hook_changes_what_a_column_gives_and_gets() -> None:
    def prepare(model: RevCol):
        model.subnet1.register_forward_hook(lambda _, __, levels: tuple(2 * x for x in levels))
        model.subnet2.register_forward_pre_hook(lambda _, given: (given[0] + 1, *given[1:]))

    assert_trains_as_plainly(prepare)


@pytest.mark.parametrize('place', ['subnet1', 'subnet2.level1', 'subnet0.level2.blocks.0'])
@pytest.mark.filterwarnings('ignore:column . is trained without saving memory')
def test_an_auxiliary_loss_on_what_a_hook_saw_has_its_gradient(place: str) -> None:
    def prepare(model: RevCol):
        seen = []
        model.get_submodule(place).register_forward_hook(lambda *call: seen.append(call[-1]))

        def loss() -> Tensor:
            assert len(seen) == 1
            outputs = seen[0] if isinstance(seen[0], tuple) else seen
            return sum(output.pow(3).mean() for output in outputs)

        return loss

    assert_trains_as_plainly(prepare)


def test_hooks_inside_a_column_say_that_it_does_not_save_memory() -> None:
    model = build(True)
    model.subnet1.level0.register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match='column 1 is trained without saving .* level0 has hooks'):
        model(images())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model(images())


def test_a_backward_hook_on_a_column_is_called_and_changes_gradients() -> None:
    calls = []

    def prepare(model: RevCol) -> None:
        def halve(_, given, __):
            calls.append(1)
            return tuple(None if gradient is None else gradient / 2 for gradient in given)

        model.subnet2.register_full_backward_hook(halve)

    assert_trains_as_plainly(prepare)
    assert len(calls) == 2


class RandomBlock(Block):
    """Drops values at random."""

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.3, self.training), keep)


class NormBlock(Block):
    """Has running statistics."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, kernel_size)
        self.batch_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return super().forward(self.batch_norm(x), keep)


class PlainBlock(nn.Module):
    """One convolution, whose weight may be wrapped."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return x + self.conv(x).tanh()


@pytest.mark.parametrize('block', [RandomBlock, NormBlock])
def test_blocks_with_random_numbers_or_statistics(block: type) -> None:
    assert_trains_as_plainly(block=block)


class DoublingLevel(Level):
    """Does more than its last block."""

    def forward(self, *arguments: object) -> Tensor:
        return 2 * super().forward(*arguments)


def run_twice(level: Level) -> None:
    level.blocks[-1] = level.blocks[0]


def double_the_level(level: Level) -> None:
    level.__class__ = DoublingLevel


@pytest.mark.parametrize('change', [run_twice, double_the_level])
def test_levels_whose_last_block_does_not_give_their_output(change: Callable) -> None:
    def prepare(model: RevCol) -> None:
        for column in (model.subnet0, model.subnet1):
            change(column.level2)

    assert_trains_as_plainly(prepare)


def test_random_numbers_go_on_as_in_plain_training() -> None:
    states = []
    for save_memory in (False, True):
        gradients(build(save_memory, block=RandomBlock))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_spectral_norm_and_weights_tied_in_and_across_levels() -> None:
    def prepare(model: RevCol) -> None:
        torch.manual_seed(1)
        nn.utils.parametrizations.spectral_norm(model.subnet1.level0.blocks[0].conv)
        model.subnet1.level2.blocks[1].conv = model.subnet1.level2.blocks[0].conv
        model.subnet2.level3.blocks[0].conv.weight = model.subnet3.level3.blocks[0].conv.weight

    assert_trains_as_plainly(prepare, block=PlainBlock)


def test_the_mode_of_the_forward_pass_counts() -> None:
    found = []
    for save_memory in (False, True):
        model = build(save_memory, block=NormBlock)
        total = sum(output.square().mean() for output in model(images()))
        model.eval()
        total.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)


def test_a_level_with_weights_that_are_not_its_own_is_refused() -> None:
    model = build(True)
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    block = model.subnet2.level0.blocks[0]
    forward = type(block).forward
    block.forward = lambda x, keep=None: forward(block, x, keep) * weight.view(-1, 1, 1)
    with pytest.raises(ValueError, match='Level uses a tensor .* register it there'):
        model(images())


def test_threads_that_differentiate_one_model_at_once_do_not_meet() -> None:
    model = build(True)
    parameters = list(model.parameters())
    before = [id(parameter) for parameter in parameters]

    def differentiate(number: int) -> list[Tensor]:
        outputs = model(images() * (1 + number % 3))
        return torch.autograd.grad(sum(o.square().mean() for o in outputs), parameters)

    expected = [differentiate(number) for number in range(3)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(differentiate, range(24)))
    for number, result in enumerate(found):
        torch.testing.assert_close(result, expected[number % 3])
    assert [id(parameter) for parameter in model.parameters()] == before


def test_one_graph_is_differentiated_by_threads_at_once() -> None:
    model = build(True)
    parameters = list(model.parameters())
    total = sum(output.square().mean() for output in model(images()))

    def differentiate(_: int) -> list[Tensor]:
        return torch.autograd.grad(total, parameters, retain_graph=True)

    expected = differentiate(0)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(differentiate, range(12)):
            torch.testing.assert_close(result, expected)


def test_compiled_blocks_give_the_same_gradients() -> None:
    def prepare(model: RevCol) -> None:
        model.subnet1.level0.blocks[0].compile(backend='aot_eager')
        block = torch.compile(model.subnet2.level2.blocks[0], backend='aot_eager')
        model.subnet2.level2.blocks[0] = block

    assert_trains_as_plainly(prepare)


def test_the_backbone_is_traced_with_saved_memory() -> None:
    model = build(True).eval()
    traced = torch.jit.trace(model, images(), check_trace=False)
    torch.testing.assert_close(traced(images()), model(images()))


@pytest.mark.parametrize('anchor_every', [0, 1, 4])
def test_gradients_enter_at_any_column(anchor_every: int) -> None:
    found = []
    for save_memory in (False, True):
        model = build(save_memory, anchor_every=anchor_every)
        columns = model.run_columns(model.stem(images()), outputs=(2, 0, 3))
        assert [len(levels) for levels in columns] == [4, 4, 4]
        weights = ((0.3, 0, 0, 2), (0, 1, 0, 1), (1, 1, 1, 0.5))
        total = sum(
            weight * level.square().mean()
            for row, levels in zip(weights, columns, strict=True)
            for weight, level in zip(row, levels, strict=True)
        )
        total.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


def test_constants_with_gradients_are_refused() -> None:
    with pytest.raises(ValueError, match='a constant of the columns needs a gradient'):
        run_reversibly([], images(), constants=(torch.ones(1, requires_grad=True),))

"""Blocks that train by C++ functions: the gradients of the modules, from less time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from revcol_backbone import RevCol, train_natively
from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.block import perceptron
from revcol_backbone.level import Block
from tests.block.test_block_function import KEEPS, by_modules, gradients
from tests.golden import fill, image, relative_error

SMALL = {'channels': (8, 12, 16, 24), 'layers': (1, 1, 2, 1), 'columns': 4}
FUNCTIONS = ('revcol_backbone::perceptron_forward', 'revcol_backbone::perceptron_backward')


@pytest.fixture(autouse=True)
def _native() -> Iterator[None]:
    train_natively()
    yield
    train_natively(False)


@pytest.fixture
def _all_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count every map as a large one."""
    monkeypatch.setattr(perceptron, 'RECOMPUTE_FROM', 0)


def step(model: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], list[int]]:
    """The gradients of a training step, and how often each of the C++ functions ran."""
    torch.manual_seed(0)  # of drop path
    model.zero_grad()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        outputs = model(x)
        weights = [image(output.shape, str(index)) for index, output in enumerate(outputs)]
        total = sum((o * w.to(o.dtype)).sum() for o, w in zip(outputs, weights, strict=True))
        total.backward()
    counts = {event.key: event.count for event in profiler.key_averages()}
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return found, [counts.get(name, 0) for name in FUNCTIONS]


@pytest.mark.usefixtures('_all_maps')
@pytest.mark.parametrize('keep', KEEPS)
@pytest.mark.parametrize('channels', [3, 16, 72, 129])
@pytest.mark.parametrize('size', [(1, 1), (5, 7), (30, 41)])
@pytest.mark.parametrize('threads', [1, 3])
def test_output_and_gradients_equal_the_modules_in_float64(
    keep: str, channels: int, size: tuple[int, int], threads: int
) -> None:
    torch.manual_seed(0)
    block = Block(channels, 3)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = image((3, channels, *size)).requires_grad_()
    factors = KEEPS[keep] and torch.tensor(KEEPS[keep])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = gradients(lambda: block(x, factors), block, x)
    finally:
        torch.set_num_threads(before)
    exact, y = block.double(), x.detach().double().requires_grad_()
    factors = None if factors is None else factors.double()
    expected = gradients(lambda: by_modules(exact, y, factors), exact, y)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype is torch.float32
        assert relative_error(one, other) < 5e-5


@pytest.mark.usefixtures('_all_maps')
@pytest.mark.parametrize('drop_path_rate', [0, 0.5])
@pytest.mark.parametrize(
    ('memory', 'bound'),
    [
        ({}, 1e-5),
        ({'save_memory': True}, 1e-5),
        # Undoing columns amplifies rounding, whatever computes them.
        ({'save_memory': True, 'anchor_every': 0}, 1e-3),
    ],
    ids=str,
)
def test_a_network_gets_the_gradients_of_float64(
    memory: dict, bound: float, drop_path_rate: float
) -> None:
    arguments = {**memory, 'drop_path_rate': drop_path_rate}
    model, x = fill(RevCol(SMALL, **arguments)).train(), image((4, 3, 64, 96))
    found, (forward, backward) = step(model, x)
    # In memory-saving training outputs of small blocks may be kept instead.
    assert forward >= 10
    assert backward == 20
    expected, _ = step(fill(RevCol(SMALL, **arguments)).double().train(), x.double())
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert relative_error(gradient, expected[name]) < bound, name


def test_large_maps_alone_run_by_them() -> None:
    arch = {'channels': (4, 32, 64, 128), 'layers': (1, 1, 1, 1), 'columns': 2}
    model = fill(RevCol(arch)).train()
    _, counts = step(model, image((1, 3, 96, 96)))
    assert counts == [2, 2]
    train_natively(False)
    assert step(model, image((1, 3, 96, 96)))[1] == [0, 0]


@pytest.mark.usefixtures('_all_maps')
def test_a_step_gives_the_same_bits_again() -> None:
    model, x = fill(RevCol(SMALL, save_memory=True)).train(), image((2, 3, 96, 96))
    first, _ = step(model, x)
    second, _ = step(model, x)
    assert all(torch.equal(gradient, second[name]) for name, gradient in first.items())


@pytest.mark.usefixtures('_all_maps')
def test_frozen_parts_get_no_gradients() -> None:
    block = fill(Block(8, 3))
    block.pwconv1.requires_grad_(False)
    block.gamma.requires_grad_(False)
    x = image((2, 8, 6, 6)).requires_grad_()
    block(x).square().sum().backward()
    assert block.pwconv1.weight.grad is None
    assert block.gamma.grad is None
    assert x.grad is not None
    assert block.pwconv2.weight.grad is not None


@pytest.mark.usefixtures('_all_maps')
def test_autocast_and_float64_are_computed_as_before() -> None:
    model, x = fill(RevCol(SMALL)).train(), image((1, 3, 64, 64))
    with torch.autocast('cpu', torch.bfloat16):
        assert step(model, x)[1] == [0, 0]
    assert step(model.double(), x.double())[1] == [0, 0]


@pytest.mark.usefixtures('_all_maps')
def test_second_derivatives_are_those_of_the_modules() -> None:
    block, x = fill(Block(4, 3)), image((1, 4, 5, 5)).requires_grad_()

    def curvature(output: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), x)[0]

    assert relative_error(curvature(block(x)), curvature(by_modules(block, x))) < 1e-5


@pytest.mark.parametrize('memory', [{}, {'save_memory': True}])
def test_no_more_memory_is_taken(memory: dict) -> None:
    model, x = fill(RevCol('tiny', **memory)).train(), image((1, 3, 192, 192))
    peaks = []
    for enabled in (True, False):
        train_natively(enabled)
        model.zero_grad(set_to_none=True)
        with LiveBytes() as live:
            sum(output.mean() for output in model(x)).backward()
        peaks.append(live.peak)
    assert peaks[0] <= 1.01 * peaks[1]

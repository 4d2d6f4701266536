"""A network deployed with ``native=True``: the outputs of the trained one, from C++ functions."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from revcol_backbone import RevCol
from revcol_backbone.analysis.memory import LiveBytes
from tests.golden import TOY_ARCHITECTURES, fill, golden_results, image, relative_error

SMALL = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 3, 'long_up': True}
BOUND = 1e-5
FUNCTIONS = ('revcol_backbone::packed_block', 'revcol_backbone::packed_projection')


def trained(arch: dict | str = SMALL, **arguments: object) -> RevCol:
    return fill(RevCol(arch, **arguments)).eval()


def native(arch: dict | str = SMALL, **arguments: object) -> RevCol:
    model = trained(arch, **arguments)
    model.switch_to_deploy(native=True)
    return model


def run(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return model(x)


def calls(model: nn.Module, x: Tensor) -> list[int]:
    """How often each of the C++ functions runs in a forward pass."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        model(x)
    counts = {event.key: event.count for event in profiler.key_averages()}
    return [counts.get(name, 0) for name in FUNCTIONS]


def assert_close(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert relative_error(one, other) < BOUND


@pytest.mark.parametrize('name', TOY_ARCHITECTURES)
def test_outputs_are_the_golden_numbers(name: str) -> None:
    golden, model = golden_results(name), native(**TOY_ARCHITECTURES[name])
    outputs = run(model, image((2, 3, 64, 96)))
    for index, output in enumerate(outputs):
        assert relative_error(output, golden[f'out{index}']) < 2e-6


def test_every_block_and_every_branch_of_a_fusion_is_one_call() -> None:
    model = native('tiny')
    with torch.no_grad():
        blocks, projections = calls(model, image((1, 3, 64, 64)))
    assert blocks == 4 * (2 + 2 + 4 + 2)
    assert projections == 4 * 3 + 3 * 3  # `down` of every column, `up` past the first


@pytest.mark.parametrize('shape', [(2, 3, 64, 96), (1, 3, 32, 32), (3, 3, 77, 45), (1, 3, 401, 38)])
@pytest.mark.parametrize('kernel_size', [1, 3, 7])
def test_outputs_are_those_of_the_trained_network(shape: tuple[int, ...], kernel_size: int) -> None:
    x, arguments = image(shape), {'kernel_size': kernel_size}
    assert_close(run(native(**arguments), x), run(trained(**arguments), x))


@pytest.mark.parametrize('channels', [(16, 32, 64, 128), (72, 144, 288, 576), (5, 33, 70, 129)])
def test_every_width_is_computed(channels: tuple[int, ...]) -> None:
    arch = {'channels': channels, 'layers': (1, 1, 1, 1), 'columns': 2}
    x = image((1, 3, 96, 64))
    assert_close(run(native(arch), x), run(trained(arch), x))


@pytest.mark.parametrize('threads', [1, 2, 3, 7])
def test_any_number_of_threads_gives_the_same_outputs(threads: int) -> None:
    model, x, before = native(), image((2, 3, 77, 45)), torch.get_num_threads()
    expected = run(trained(), x)
    torch.set_num_threads(threads)
    try:
        assert_close(run(model, x), expected)
    finally:
        torch.set_num_threads(before)


def test_threads_of_the_caller_may_share_a_network() -> None:
    model = native()
    images = [image((1, 3, 32 + 8 * index, 64), str(index)) for index in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda x: run(model, x), images * 2))
    for outputs, x in zip(found, images * 2, strict=True):
        assert_close(outputs, run(trained(), x))


def test_gelu_is_as_exact_as_float32_allows() -> None:
    # A constant image has no variance, so that the bias alone reaches the GELU.
    width = 64
    block = native({'channels': (width,) * 4, 'layers': (1, 1, 1, 1), 'columns': 1}).subnet0
    block = block.level0.blocks[0]
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.pwconv2.weight[:, :width] = torch.eye(width)
        x = torch.zeros(1, width, 1, 1)
        for values in torch.linspace(-12, 12, 100 * width).split(width):
            block.pwconv1.bias[:width] = values
            exact = values.double()
            exact = exact * (1 + torch.erf(exact / math.sqrt(2))) / 2
            error = (block(x).flatten() - exact).abs() / values.abs().clamp(min=1)
            assert error.max() < 3e-7


def test_not_a_number_and_infinity_pass_through() -> None:
    for value in (math.nan, math.inf):
        x = image((1, 3, 64, 64))
        x[0, 0, 5, 5] = value
        for output, expected in zip(run(native(), x), run(trained(), x), strict=True):
            assert torch.equal(output.isfinite(), expected.isfinite())


def test_an_empty_batch_gives_empty_levels() -> None:
    outputs = run(native(), torch.zeros(0, 3, 64, 64))
    assert [tuple(output.shape) for output in outputs] == [
        (0, channels, 16 >> index, 16 >> index) for index, channels in enumerate(SMALL['channels'])
    ]


@pytest.mark.parametrize(
    'view',
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3),
        lambda x: x[:, :, ::2, ::2],
        lambda x: x[:1].expand(2, -1, -1, -1),
    ],
)
def test_images_in_any_memory_are_taken(view: Callable[[Tensor], Tensor]) -> None:
    x = view(image((2, 3, 96, 128)))
    assert_close(run(native(), x), run(trained(), x))


def test_alphas_of_every_size_and_sign_are_applied() -> None:
    model, reference = trained(), trained()
    with torch.no_grad():
        for network in (model, reference):
            for alpha, factor in zip(
                itertools.chain(*(getattr(network, f'subnet{i}').alphas for i in (1, 2))),
                itertools.cycle([-1, 1e-4, 3, 0]),
            ):
                alpha.mul_(factor)
    model.switch_to_deploy(native=True)
    x = image((1, 3, 64, 64))
    assert_close(run(model, x), run(reference, x))


@pytest.mark.parametrize('out_indices', [(0,), (1, 3), (2,)])
def test_chosen_levels_are_returned(out_indices: tuple[int, ...]) -> None:
    x = image((1, 3, 64, 64))
    found = run(native(out_indices=out_indices), x)
    assert_close(found, run(trained(out_indices=out_indices), x))


def test_a_network_that_is_already_deployed_becomes_native() -> None:
    model, x = trained(), image((1, 3, 64, 64))
    model.switch_to_deploy()
    keys, expected = list(model.state_dict()), run(model, x)
    assert calls(model, x) == [0, 0]
    for _ in range(2):
        model.switch_to_deploy(native=True)
        assert list(model.state_dict()) == keys
        assert_close(run(model, x), expected)
        with torch.no_grad():
            assert calls(model, x) == [15, 9 + 6 + 3 - 3]


def test_a_deployed_file_loads_and_runs() -> None:
    model = RevCol(SMALL, deploy=True)
    model.switch_to_deploy(native=True)
    x = image((1, 3, 64, 64))
    run(model, x)
    source = native()
    model.load_state_dict(source.state_dict())
    for one, other in zip(run(model, x), run(source, x), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_used_network_copies_and_pickles(copied: Callable[[RevCol], RevCol]) -> None:
    model, x = native(), image((1, 3, 64, 64))
    for one, other in zip(run(model, x), run(copied(model), x), strict=True):
        assert torch.equal(one, other)


def test_a_weight_written_in_any_way_is_used_at_once() -> None:
    model, x = native(), image((1, 3, 64, 64))
    for name in ('dwconv.weight', 'dwconv.bias', 'pwconv1.weight', 'pwconv2.weight'):
        run(model, x)
        model.get_parameter(f'subnet1.level0.blocks.0.{name}').data.mul_(1.5)
        fresh = RevCol(SMALL, deploy=True)
        fresh.load_state_dict(model.state_dict())
        assert_close(run(model, x), run(fresh, x))


def test_weights_in_a_mapped_file_are_used(tmp_path: Path) -> None:
    model, x = native(), image((1, 3, 64, 64))
    expected = run(model, x)
    torch.save(model.state_dict(), tmp_path / 'deployed.pth')
    model.load_state_dict(torch.load(tmp_path / 'deployed.pth', mmap=True), assign=True)
    assert_close(run(model, x), expected)


def test_blocks_of_another_kind_stay_as_they_are() -> None:
    class Doubling(nn.Module):
        def __init__(self, channels: int, kernel_size: int) -> None:
            super().__init__()

        def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
            return 2 * x

    x = image((1, 3, 64, 64))
    assert_close(run(native(block=Doubling), x), run(trained(block=Doubling), x))


def test_the_hidden_layer_is_never_in_memory() -> None:
    channels = 64
    arch = {'channels': (channels,) * 4, 'layers': (2, 1, 1, 1), 'columns': 2}
    model, x = native(arch), image((1, 3, 256, 256))
    run(model, x)
    with LiveBytes() as live:
        run(model, x)
    level0 = 4 * channels * 64 * 64
    # Those of two columns, the stem's, and one that is being computed.
    assert live.peak < x.nbytes + 7 * level0

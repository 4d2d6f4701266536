"""The involution's C++ functions, against the shifts in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from revcol_backbone.involution import Involution, involution, native, shifted, use_native

FUNCTIONS = ('aggregate', 'input_gradient', 'kernel_gradient')


@pytest.fixture(autouse=True)
def _native() -> Iterator[None]:
    use_native()
    yield
    use_native(False)


def calls(function: str, batch, groups, channels, size, kernel, stride) -> tuple[Tensor, Tensor]:
    """The result of a C++ function, and the exact one."""
    small = [-(-side // stride) for side in size]
    x = torch.randn(batch, groups * channels, *size)
    grad = torch.randn(batch, groups * channels, *small)
    weights = torch.randn(batch, groups, kernel**2, *small)
    arguments = {
        'aggregate': (x, weights),
        'input_gradient': (grad, weights, x.shape),
        'kernel_gradient': (grad, x, weights.shape),
    }[function]
    found = getattr(native, function)(*arguments, stride)
    doubled = [value.double() if isinstance(value, Tensor) else value for value in arguments]
    return found, getattr(shifted, function)(*doubled, stride)


def assert_exact(found: Tensor, expected: Tensor) -> None:
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize('function', FUNCTIONS)
@settings(max_examples=100, deadline=None)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 8, 16, 20]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kernel=st.sampled_from([1, 3, 5, 7, 9, 11]),
    stride=st.integers(1, 5),
    threads=st.integers(1, 3),
)
def test_every_size_is_computed(function, batch, groups, channels, size, kernel, stride, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_exact(*calls(function, batch, groups, channels, size, kernel, stride))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize('function', FUNCTIONS)
@pytest.mark.parametrize('stride', [1, 2])
def test_maps_larger_than_the_cache_are_computed(function: str, stride: int) -> None:
    assert_exact(*calls(function, 1, 2, 16, (90, 700), 7, stride))


@pytest.mark.parametrize('shape', [(0, 32, 5, 5), (2, 32, 0, 5), (2, 32, 5, 0)])
def test_empty_maps_give_empty_results(shape: tuple[int, ...]) -> None:
    batch, channels, height, width = shape
    weights = torch.zeros(batch, 2, 9, height, width)
    x = torch.zeros(shape)
    assert native.aggregate(x, weights, 1).shape == shape
    assert native.input_gradient(x, weights, shape, 1).shape == shape
    assert native.kernel_gradient(x, x, weights.shape, 1).shape == weights.shape


def test_a_layer_trains_with_them_and_only_when_asked() -> None:
    layer = Involution(32, 7)
    x = torch.randn(2, 32, 30, 30, requires_grad=True)
    results, counts = [], []
    for enabled in (True, False):
        use_native(enabled)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            out = layer(x)
            results.append((out, *torch.autograd.grad(out.sin().sum(), (x, *layer.parameters()))))
        keys = {event.key: event.count for event in profiler.key_averages()}
        counts.append(
            sum(
                keys.get(f'revcol_backbone::native_{name}', 0)
                for name in (
                    'involution',
                    'involution_input_gradient',
                    'involution_kernel_gradient',
                )
            )
        )
    assert counts == [3, 0]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_second_derivatives_and_compilation_work() -> None:
    x, weights = torch.randn(1, 16, 6, 5), torch.randn(1, 1, 9, 6, 5)

    def curvature(x: Tensor, weights: Tensor) -> Tensor:
        out = involution(x, weights).square().sum()
        (grad,) = torch.autograd.grad(out, x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), weights)[0]

    found = curvature(x.requires_grad_(), weights.requires_grad_())
    use_native(False)
    expected = curvature(x, weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    use_native()
    compiled = torch.compile(involution, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(x, weights), involution(x, weights))


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_other_dtypes_are_computed_as_before(dtype: torch.dtype) -> None:
    x, weights = torch.randn(1, 16, 6, 5, dtype=dtype), torch.randn(1, 1, 9, 6, 5, dtype=dtype)
    found = involution(x, weights)
    use_native(False)
    assert torch.equal(found, involution(x, weights))


def test_inputs_in_any_memory_are_taken() -> None:
    x, weights = torch.randn(2, 32, 9, 8), torch.randn(2, 2, 9, 9, 8)
    expected = involution(x, weights)
    strided = weights.permute(0, 2, 1, 4, 3).contiguous().permute(0, 2, 1, 4, 3)
    found = involution(x.contiguous(memory_format=torch.channels_last), strided)
    torch.testing.assert_close(found, expected)

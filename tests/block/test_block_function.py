"""The block as one function: equal to its modules, which autograd differentiates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.block import block_function, perceptron
from revcol_backbone.level import Block
from tests.device import DEVICE
from tests.golden import image

pytestmark = pytest.mark.on_device

KEEPS = {'all': None, 'some': (0.0, 1.25, 2.0), 'none': (0.0, 0.0, 0.0)}


def make_block(channels: int = 4, kernel_size: int = 3) -> Block:
    torch.manual_seed(0)
    block = Block(channels, kernel_size).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def by_modules(block: Block, x: Tensor, keep: Tensor | None = None) -> Tensor:
    """The block as written in the paper's figure, one module after the other."""
    branch = block.dwconv(x).permute(0, 2, 3, 1)
    branch = block.pwconv2(torch.nn.functional.gelu(block.pwconv1(block.norm(branch))))
    branch = (block.gamma * branch).permute(0, 3, 1, 2)
    return x + (branch if keep is None else branch * keep.view(-1, 1, 1, 1))


def gradients(run: Callable[[], Tensor], block: Block, x: Tensor) -> list[Tensor]:
    output = run()
    probe = image(output.shape, 'probe').to(output.dtype)
    return [output, *torch.autograd.grad(output, [x, *block.parameters()], probe)]


@pytest.mark.parametrize('keep', KEEPS)
@pytest.mark.parametrize('recompute', [False, True])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('kernel_size', [3, 7])
def test_output_and_gradients_equal_the_modules(
    monkeypatch, keep, recompute, memory_format, kernel_size
) -> None:
    monkeypatch.setattr(perceptron, 'RECOMPUTE_FROM', 0 if recompute else 1000)
    monkeypatch.setattr(perceptron, 'CPU_CHUNK', 16 * 8 * 11)  # 11 positions at a time
    block, x = make_block(kernel_size=kernel_size), image((3, 4, 5, 7)).double()
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    factors = KEEPS[keep] and torch.tensor(KEEPS[keep], dtype=torch.float64)
    found = gradients(lambda: block(x, factors), block, x)
    expected = gradients(lambda: by_modules(block, x, factors), block, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('keep', KEEPS)
@pytest.mark.parametrize('needs_value', [True, False])
def test_a_gradient_known_beforehand_gives_the_same_in_one_pass(
    monkeypatch, keep, needs_value
) -> None:
    monkeypatch.setattr(perceptron, 'CPU_CHUNK', 16 * 8 * 11)
    block, x = make_block(), image((3, 4, 5, 7)).double().requires_grad_()
    factors = KEEPS[keep] and torch.tensor(KEEPS[keep], dtype=torch.float64)
    output, *expected = gradients(lambda: by_modules(block, x, factors), block, x)
    probe = image(output.shape, 'probe').double()
    block.known = block_function.KnownOutput(gradient=probe, needs_value=needs_value)
    found = block(x, factors)
    if needs_value:
        torch.testing.assert_close(found, output, rtol=1e-12, atol=1e-12)
    else:
        assert found.isnan().all()
    of_all = torch.autograd.grad(found, [x, *block.parameters()], probe, retain_graph=True)
    torch.testing.assert_close(list(of_all), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(RuntimeError, match='another gradient'):
        torch.autograd.grad(found, x, probe.clone())


@pytest.mark.parametrize('keep', KEEPS)
def test_a_result_known_beforehand_is_taken_and_the_gradients_are_the_same(keep: str) -> None:
    block, x = make_block(), image((3, 4, 5, 7)).double().requires_grad_()
    factors = KEEPS[keep] and torch.tensor(KEEPS[keep], dtype=torch.float64)
    output, *expected = gradients(lambda: by_modules(block, x, factors), block, x)
    block.known = block_function.KnownOutput(output.detach())
    found, *of_all = gradients(lambda: block(x, factors), block, x)
    assert found.data_ptr() == output.data_ptr()
    torch.testing.assert_close(of_all, expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        assert block(x, factors).data_ptr() == output.data_ptr()


def test_gradients_of_both_orders_equal_finite_differences() -> None:
    block = make_block(channels=2)
    x = image((2, 2, 3, 4)).double().requires_grad_()
    keep = torch.tensor([1.25, 0.5], dtype=torch.float64)
    names, parameters = zip(*block.named_parameters(), strict=True)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        weights = dict(zip(names, values, strict=True))
        order = ['dwconv', 'norm', 'pwconv1', 'pwconv2']
        flat = [weights[f'{module}.{kind}'] for module in order for kind in ('weight', 'bias')]
        return block_function.BlockFunction.apply(
            True, None, x, keep, 1e-6, *flat, weights['gamma']
        )

    assert torch.autograd.gradcheck(run, (x, *parameters))
    assert torch.autograd.gradgradcheck(run, (x, *parameters), atol=1e-4)


@pytest.mark.parametrize('frozen', ['dwconv', 'norm', 'pwconv1', 'pwconv2', 'gamma', 'x'])
def test_what_is_frozen_gets_no_gradient_and_the_rest_keeps_its_own(frozen: str) -> None:
    results = []
    for run in (lambda block, x: block(x), by_modules):
        block, x = make_block(), image((2, 4, 5, 6)).double().requires_grad_(frozen != 'x')
        for name, parameter in block.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        run(block, x).sin().sum().backward()
        results.append(
            {name: value.grad for name, value in block.named_parameters()} | {'x': x.grad}
        )
    for name, expected in results[1].items():
        found = results[0][name]
        if expected is None:
            assert found is None
        else:
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('mode', ['float32', 'bfloat16', 'autocast'])
def test_rounding_is_at_most_twice_that_of_the_modules(mode: str) -> None:
    exact, x64 = make_block(channels=16), image((2, 16, 12, 20)).double().requires_grad_()
    reference = gradients(lambda: by_modules(exact, x64), exact, x64)
    errors = []
    for run in (lambda block, x: block(x), by_modules):
        dtype = torch.bfloat16 if mode == 'bfloat16' else torch.float32
        block, x = make_block(channels=16).to(dtype), x64.detach().to(dtype).requires_grad_()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=mode == 'autocast'):
            results = gradients(lambda: run(block, x), block, x)  # noqa: B023
        assert results[0].dtype == dtype
        errors.append(
            [
                ((found - exact).norm() / exact.norm()).item()
                for found, exact in zip(results, reference, strict=True)
            ]
        )
    for ours, modules in zip(*errors, strict=True):
        assert ours <= 2 * modules + 1e-7


def test_hooks_wrappers_and_transforms_see_the_modules() -> None:
    block, x = make_block(), image((1, 4, 5, 6)).double()
    seen = []
    handle = block.pwconv1.register_forward_hook(lambda *_: seen.append('hook'))
    block(x)
    handle.remove()
    assert seen == ['hook']
    expected = by_modules(block, x)
    torch.testing.assert_close(torch.func.vmap(lambda y: block(y[None])[0])(x), expected)
    _, slope = torch.func.jvp(block, (x,), (torch.ones_like(x),))
    assert slope.shape == x.shape
    parametrizations.weight_norm(block.pwconv2)
    torch.testing.assert_close(block(x), expected)


def test_two_maps_of_its_width_are_kept_for_the_backward_pass() -> None:
    block, x = Block(16, 3), torch.rand(1, 16, 128, 128).requires_grad_()
    x = x.contiguous(memory_format=torch.channels_last)
    one_map = x.nelement() * x.element_size()
    with LiveBytes() as live:
        output = block(x)
    # The output and the convolution's; the input is the caller's.
    assert live.now <= 2.1 * one_map
    del output

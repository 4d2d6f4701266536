"""The involution layer: published numbers and layout, sizes, precisions, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from revcol_backbone.involution import Involution
from tests.device import DEVICE
from tests.golden import DATA, fill, image, relative_error

pytestmark = pytest.mark.on_device

CASES = ((32, 7, 1), (32, 7, 2), (64, 3, 1))
TOLERANCE = 1e-6


def golden(channels: int, kernel_size: int, stride: int) -> dict[str, np.ndarray]:
    prefix = f'c{channels}_k{kernel_size}_s{stride}/'
    with np.load(DATA / 'involution.npz') as arrays:
        return {
            key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)
        }


def run_golden(channels: int, kernel_size: int, stride: int) -> tuple[Involution, Tensor, Tensor]:
    layer = fill(Involution(channels, kernel_size, stride)).double().eval()
    x = image((2, channels, 14, 18), f'inv{channels}{kernel_size}{stride}').double()
    x.requires_grad_()
    out = layer(x)
    (out * image(tuple(out.shape), 'invprobe').double()).sum().backward()
    return layer, x, out


@pytest.mark.parametrize('case', CASES)
def test_outputs_and_gradients_are_the_published_implementation_s(case):
    expected = golden(*case)
    layer, x, out = run_golden(*case)
    found = {'out': out, 'grad_input': x.grad}
    found |= {f'grad/{key}': value.grad for key, value in layer.named_parameters()}
    assert set(found) == set(expected) - {'keys'}
    for key, value in found.items():
        assert relative_error(value, torch.from_numpy(expected[key])) < TOLERANCE, key


@pytest.mark.parametrize('case', CASES)
def test_the_state_dict_has_the_published_keys(case):
    assert sorted(Involution(*case).state_dict()) == sorted(golden(*case)['keys'].tolist())


@pytest.mark.parametrize('stride', [1, 2, 3, 8])
@pytest.mark.parametrize('size', [(1, 1), (7, 5), (8, 9)])
def test_sizes_round_up_whatever_the_stride(stride, size):
    out = Involution(16, 7, stride).eval()(torch.randn(2, 16, *size))
    assert out.shape == (2, 16, -(-size[0] // stride), -(-size[1] // stride))


def test_an_empty_batch_passes():
    layer = Involution(16, 7)
    x = torch.zeros(0, 16, 14, 14, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == x.shape
    assert layer.conv2.conv.weight.grad.abs().sum() == 0


def test_channels_last_gives_the_same():
    layer, x = Involution(32, 7, 2).eval(), torch.randn(2, 32, 9, 11)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_to_float32(dtype):
    layer = Involution(32, 7).eval()
    x = torch.randn(2, 32, 12, 12)
    half = layer.to(dtype)(x.to(dtype))
    assert half.dtype is dtype
    # Eight bits of mantissa in each kernel weight; 49 products are summed in float32.
    expected = layer.float()(x.to(dtype).float())
    assert relative_error(half, expected) < 0.02


def test_trains_under_autocast():
    layer, x = Involution(32, 7), torch.randn(2, 32, 12, 12, requires_grad=True)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        out = layer(x)
    out.float().square().mean().backward()
    grads = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    assert all(grad.dtype is torch.float32 and grad.isfinite().all() for grad in grads)


def test_compiles_without_a_graph_break():
    layer, x = Involution(32, 7, 2).eval(), torch.randn(2, 32, 9, 11, requires_grad=True)
    compiled = torch.compile(layer, backend='aot_eager', fullgraph=True)
    (compiled_grad,) = torch.autograd.grad(compiled(x).square().sum(), x)
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x)
    torch.testing.assert_close(compiled_grad, grad)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((24, 7), 'channels=24 is not allowed; give a positive multiple of 16'),
        ((0, 7), 'channels=0 is not allowed'),
        ((32, 4), 'kernel_size=4 is not allowed; give a positive odd integer'),
        ((32, 7, 0), 'stride=0 is not allowed; give a positive integer'),
    ],
)
def test_refuses_sizes_that_the_operator_does_not_have(arguments, message):
    with pytest.raises(ValueError, match=message):
        Involution(*arguments)


@pytest.mark.parametrize('shape', [(2, 16, 8, 8), (32, 8, 8)])
def test_refuses_inputs_of_another_shape(shape):
    with pytest.raises(ValueError, match=r'it takes \(batch, 32, height, width\)'):
        Involution(32, 7)(torch.zeros(shape))

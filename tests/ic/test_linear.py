"""The dense layer: the neuron of the papers, alone and against the convolution."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from revcol_backbone.ic import ICConv2d, ICLinear
from tests.ic.textbook import randomize

pytestmark = pytest.mark.on_device

EXACT = dict(rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('gain', [False, True])
@pytest.mark.parametrize('shape', [(5,), (3, 5), (2, 0, 5), (2, 3, 4, 5)])
def test_is_the_neuron_of_the_papers(bias, gain, shape):
    layer = ICLinear(5, 7, bias, dtype=torch.double, collision_start='mean', collision_gain=gain)
    randomize(layer)
    x = torch.randn(shape, dtype=torch.double, requires_grad=True)
    u = x @ layer.weight.t()
    term = (u - layer.collision_weight * x.sum(-1, keepdim=True) + layer.collision_bias).relu()
    expected = u + term * (layer.collision_gain if gain else 1) + (layer.bias if bias else 0)
    wanted = [x, *layer.parameters()]
    probe = torch.randn_like(expected)
    torch.testing.assert_close(layer(x), expected, **EXACT)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, **EXACT)
    for found, reference in zip(
        torch.autograd.grad(layer(x), wanted, probe),
        torch.autograd.grad(expected, wanted, probe),
        strict=True,
    ):
        torch.testing.assert_close(found, reference, **EXACT)


def test_first_and_second_derivatives_are_the_numeric_ones():
    torch.manual_seed(0)
    layer = randomize(ICLinear(3, 2, dtype=torch.double))
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = (torch.randn(4, 3, dtype=torch.double, requires_grad=True), *layer.parameters())
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


def test_equals_a_convolution_of_one_pixel():
    dense, conv = ICLinear(5, 7, dtype=torch.double), ICConv2d(5, 7, 1, dtype=torch.double)
    randomize(dense)
    conv.load_state_dict(
        {key: value.view(conv.state_dict()[key].shape) for key, value in dense.state_dict().items()}
    )
    x = torch.randn(3, 5, dtype=torch.double)
    torch.testing.assert_close(dense(x), conv(x[:, :, None, None])[:, :, 0, 0], **EXACT)


def test_starts_as_documented():
    layer = ICLinear(5, 7, collision_start='mean', collision_gain=True)
    torch.testing.assert_close(layer.collision_weight, layer.weight.mean(1))
    assert not layer.collision_bias.any()
    assert not layer.collision_gain.any()
    assert ICLinear(5, 7).collision_gain is None


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match='in_features=0 is not allowed; give a positive integer'):
        ICLinear(0, 3)
    with pytest.raises(ValueError, match='its last dimension must be 5'):
        ICLinear(5, 3)(torch.zeros(2, 4))

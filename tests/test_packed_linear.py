"""Linear layers that fuse what follows them: equal to the plain operations, wherever they run."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from revcol_backbone.packed_linear import PackedLinear

BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}


def make(dtype: torch.dtype = torch.float32) -> tuple[PackedLinear, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight, bias, x, residual = (
        torch.randn(shape, generator=generator).to(dtype)
        for shape in ((24, 8), (24,), (2, 5, 7, 8), (2, 5, 7, 24))
    )
    return PackedLinear(weight, bias), x, residual


@pytest.mark.parametrize('dtype', BOUNDS, ids=str)
def test_both_are_the_plain_operations_after_a_linear_layer(dtype: torch.dtype) -> None:
    layer, x, residual = make(dtype)
    linear = F.linear(x, layer.weight, layer.bias)
    bound = BOUNDS[dtype]
    with torch.no_grad():
        torch.testing.assert_close(layer.gelu(x), F.gelu(linear), rtol=bound, atol=bound)
        torch.testing.assert_close(
            layer.add(x, residual), residual + linear, rtol=bound, atol=bound
        )


def test_under_autocast_a_float32_residual_stays_float32() -> None:
    layer, x, residual = make()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        hidden, total = layer.gelu(x), layer.add(x, residual)
    assert hidden.dtype == torch.bfloat16
    assert total.dtype == torch.float32


@pytest.mark.filterwarnings('ignore:TF32 acceleration')
def test_the_plain_operations_run_where_mkldnn_is_turned_off() -> None:
    layer, x, residual = make()
    fused = layer.gelu(x), layer.add(x, residual)
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close((layer.gelu(x), layer.add(x, residual)), fused)


def test_strided_inputs_and_residuals_are_taken() -> None:
    layer, x, residual = make()
    expected = layer.add(x.transpose(0, 1).contiguous(), residual.transpose(0, 1).contiguous())
    found = layer.add(x.transpose(0, 1), residual.transpose(0, 1))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(layer.gelu(x[:, ::2]), layer.gelu(x[:, ::2].contiguous()))


def test_an_input_with_a_gradient_passes_it_on() -> None:
    layer, x, residual = make(torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(layer.gelu, x[:1, :2, :2])
    assert torch.autograd.gradcheck(layer.add, (x[:1, :2, :2], residual[:1, :2, :2]))


def test_a_new_weight_is_used_at_once() -> None:
    layer, x, _ = make()
    before = layer.gelu(x)
    with torch.no_grad():
        layer.weight.mul_(2)
    assert not torch.allclose(layer.gelu(x), before)
    torch.testing.assert_close(layer.gelu(x), F.gelu(layer(x)))


def test_a_new_bias_is_used_at_once() -> None:
    layer, x, _ = make()
    layer.gelu(x)
    with torch.no_grad():
        layer.bias.add_(1)
    torch.testing.assert_close(layer.gelu(x), F.gelu(layer(x)))


def test_weights_made_in_inference_mode_work() -> None:
    with torch.inference_mode():
        layer, x, residual = make()
        torch.testing.assert_close(layer.add(x, residual), residual + layer(x))

"""A network switched to deploy: the same outputs from fewer weights and fused linear layers."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from revcol_backbone import RevCol
from revcol_backbone.deploy import PackedLinear
from tests.device import DEVICE
from tests.golden import TOY_ARCHITECTURES, fill, golden_results, image, relative_error

pytestmark = pytest.mark.on_device

SMALL = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 3, 'long_up': True}
LINEAR_BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
SIZES = [(2, 3, 64, 96), (1, 3, 32, 32), (3, 3, 77, 45)]


def trained(dtype: torch.dtype = torch.float32, **arguments) -> RevCol:
    return fill(RevCol(SMALL, **arguments)).to(dtype).eval()


def deployed(dtype: torch.dtype = torch.float32, **arguments) -> RevCol:
    model = trained(dtype, **arguments)
    model.switch_to_deploy()
    return model


def assert_equal_outputs(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], bound: float):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert relative_error(one, other) < bound


@pytest.mark.parametrize('name', TOY_ARCHITECTURES)
def test_outputs_are_still_the_golden_numbers(name: str) -> None:
    golden, model = golden_results(name), fill(RevCol(**TOY_ARCHITECTURES[name])).double()
    model.switch_to_deploy()
    outputs = model(image((2, 3, 64, 96)).double())
    expected = tuple(golden[f'out{index}'] for index in range(4))
    assert_equal_outputs(outputs, expected, 1e-6)


@pytest.mark.parametrize('shape', SIZES, ids=str)
@pytest.mark.parametrize(('dtype', 'bound'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_outputs_are_those_of_the_trained_network(
    shape: tuple[int, ...], dtype: torch.dtype, bound: float
) -> None:
    x = image(shape).to(dtype)
    with torch.no_grad():
        assert_equal_outputs(deployed(dtype)(x), trained(dtype)(x), bound)


def test_an_alpha_near_zero_is_bounded_as_in_training() -> None:
    model = trained()
    with torch.no_grad():
        model.subnet1.alpha0.zero_()
        model.subnet2.alpha1.fill_(-1e-5)
    expected = model(image(SIZES[0]))
    model.switch_to_deploy()
    assert_equal_outputs(model(image(SIZES[0])), expected, 1e-5)
    assert model.subnet1.alpha0.abs().min() >= 1e-3


def test_switching_again_changes_nothing() -> None:
    model = deployed()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    outputs = model(image(SIZES[0]))
    model.switch_to_deploy()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    for one, other in zip(model(image(SIZES[0])), outputs, strict=True):
        assert torch.equal(one, other)


def test_what_only_training_needs_is_gone() -> None:
    model = deployed(save_memory=True, drop_path_rate=0.5)
    keys = model.state_dict().keys()
    assert not any(key.endswith('gamma') or '.norm.' in key for key in keys)
    assert not any(key.startswith('subnet0.alpha') for key in keys)
    assert keys < trained().state_dict().keys()
    assert not model.save_memory
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_saved_deployed_network_loads_into_a_new_one(tmp_path: Path) -> None:
    model, x = deployed(out_indices=(1, 3)), image(SIZES[0])
    torch.save(model.state_dict(), tmp_path / 'deployed.pth')
    again = RevCol(SMALL, out_indices=(1, 3), deploy=True)
    again.load_state_dict(torch.load(tmp_path / 'deployed.pth'))
    for one, other in zip(again(x), model(x), strict=True):
        assert torch.equal(one, other)


def test_a_deployed_file_loads_by_init_cfg(tmp_path: Path) -> None:
    model, path = deployed(), tmp_path / 'deployed.pth'
    torch.save(model.state_dict(), path)
    weights = {'type': 'Pretrained', 'checkpoint': str(path)}
    again = RevCol(SMALL, deploy=True, init_cfg=weights)
    again.init_weights()
    x = image(SIZES[0])
    for one, other in zip(again(x), model(x), strict=True):
        assert torch.equal(one, other)


def test_a_trained_file_does_not_load_into_a_deployed_network(tmp_path: Path) -> None:
    torch.save(trained().state_dict(), tmp_path / 'trained.pth')
    weights = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'trained.pth')}
    model = RevCol(SMALL, deploy=True, init_cfg=weights)
    with pytest.raises(ValueError, match='subnet0.alpha0'):
        model.init_weights()


def test_weights_loaded_after_a_first_use_are_used() -> None:
    model, other, x = deployed(), deployed(), image(SIZES[0])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
        model(x)
        model.load_state_dict(other.state_dict())
        for one, expected in zip(model(x), other(x), strict=True):
            assert torch.equal(one, expected)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_used_network_copies_and_pickles(copied) -> None:
    model, x = deployed(), image(SIZES[0])
    expected = model(x)
    for one, other in zip(copied(model)(x), expected, strict=True):
        assert torch.equal(one, other)


def test_it_cannot_be_trained() -> None:
    model = deployed()
    assert model.eval() is model
    with pytest.raises(RuntimeError, match='deploy=False'):
        model.train()


def test_gradients_reach_the_image() -> None:
    model, reference = deployed(torch.float64), trained(torch.float64)
    gradients = []
    for network in (model, reference):
        x = image(SIZES[0]).double().requires_grad_()
        sum(output.sum() for output in network(x)).backward()
        gradients.append(x.grad)
    assert relative_error(*gradients) < 1e-10


def test_bfloat16_is_near_float32() -> None:
    model, x = deployed(), image(SIZES[0])
    with torch.no_grad():
        expected = model(x)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            autocast = model(x)
        whole = model.bfloat16()(x.bfloat16())
    for output, cast, half in zip(expected, autocast, whole, strict=True):
        assert half.dtype == torch.bfloat16
        assert cast.dtype == torch.float32
        assert relative_error(cast, output) < 0.05
        assert relative_error(half, output) < 0.05


def test_it_compiles_whole() -> None:
    model, x = deployed(), image(SIZES[0])
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
        assert_equal_outputs(compiled(x), model(x), 1e-5)


def linear_layer(
    dtype: torch.dtype = torch.float32,
) -> tuple[PackedLinear, torch.Tensor, torch.Tensor]:
    generator = torch.Generator(DEVICE).manual_seed(0)
    weight, bias, x, residual = (
        torch.randn(shape, generator=generator).to(dtype)
        for shape in ((24, 8), (24,), (2, 5, 7, 8), (2, 5, 7, 24))
    )
    return PackedLinear(weight, bias), x, residual


@pytest.mark.parametrize('dtype', LINEAR_BOUNDS, ids=str)
def test_linear_gelu_and_add_are_the_plain_operations_after_a_linear_layer(
    dtype: torch.dtype,
) -> None:
    layer, x, residual = linear_layer(dtype)
    linear = F.linear(x, layer.weight, layer.bias)
    bound = LINEAR_BOUNDS[dtype]
    with torch.no_grad():
        torch.testing.assert_close(layer.gelu(x), F.gelu(linear), rtol=bound, atol=bound)
        torch.testing.assert_close(
            layer.add(x, residual), residual + linear, rtol=bound, atol=bound
        )


def test_under_autocast_a_float32_residual_stays_float32() -> None:
    layer, x, residual = linear_layer()
    with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16):
        hidden, total = layer.gelu(x), layer.add(x, residual)
    assert hidden.dtype == torch.bfloat16
    assert total.dtype == torch.float32


@pytest.mark.filterwarnings('ignore:TF32 acceleration')
def test_the_plain_operations_run_where_mkldnn_is_turned_off() -> None:
    layer, x, residual = linear_layer()
    fused = layer.gelu(x), layer.add(x, residual)
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close((layer.gelu(x), layer.add(x, residual)), fused)


def test_strided_inputs_and_residuals_are_taken() -> None:
    layer, x, residual = linear_layer()
    expected = layer.add(x.transpose(0, 1).contiguous(), residual.transpose(0, 1).contiguous())
    found = layer.add(x.transpose(0, 1), residual.transpose(0, 1))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(layer.gelu(x[:, ::2]), layer.gelu(x[:, ::2].contiguous()))


def test_an_input_with_a_gradient_passes_it_on() -> None:
    layer, x, residual = linear_layer(torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(layer.gelu, x[:1, :2, :2])
    assert torch.autograd.gradcheck(layer.add, (x[:1, :2, :2], residual[:1, :2, :2]))


def test_a_new_weight_is_used_at_once() -> None:
    layer, x, _ = linear_layer()
    before = layer.gelu(x)
    with torch.no_grad():
        layer.weight.mul_(2)
    assert not torch.allclose(layer.gelu(x), before)
    torch.testing.assert_close(layer.gelu(x), F.gelu(layer(x)))


WRITES = {
    'one element through its data': lambda weight: weight.data[3, 4].mul_(2),
    'all of its data': lambda weight: weight.data.mul_(2),
    'a view of its data': lambda weight: weight.data.t()[5].zero_(),
    'NumPy': lambda weight: weight.numpy().__setitem__((1, 2), 7),
    'NumPy of a detached one': lambda weight: weight.detach().numpy().__setitem__((1, 2), 7),
    'its storage': lambda weight: weight.untyped_storage().fill_(0),
    'other data': lambda weight: setattr(weight, 'data', weight.data * 2),
    'its memory in another order': lambda weight: setattr(
        weight, 'data', weight.data.as_strided(weight.shape, (1, len(weight)))
    ),
}


@pytest.mark.parametrize('write', WRITES.values(), ids=WRITES)
def test_a_weight_written_in_any_way_is_used_at_once(write: Callable[[Tensor], object]) -> None:
    layer, x, residual = linear_layer()
    for _ in range(2):
        layer.gelu(x), layer.add(x, residual)
        write(layer.weight)
        torch.testing.assert_close(layer.gelu(x), F.gelu(layer(x)))
        torch.testing.assert_close(layer.add(x, residual), residual + layer(x))


def test_an_alias_from_before_the_first_use_may_write_any_element_later() -> None:
    layer, x, _ = linear_layer()
    alias = layer.weight.data
    for row, column in itertools.product(range(0, len(alias), 5), range(0, alias.shape[1], 5)):
        before = layer.gelu(x)
        alias[row, column] += 1
        assert not torch.equal(layer.gelu(x), before)
    torch.testing.assert_close(layer.gelu(x), F.gelu(layer(x)))


def test_reading_a_weight_does_not_pack_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, residual = linear_layer()
    layer.gelu(x)
    with torch.autocast('cpu', torch.bfloat16):
        layer.gelu(x)
    # An operator that is deleted would be looked up again.
    monkeypatch.setattr(torch.ops.mkldnn, '_reorder_linear_weight', None, raising=False)
    for _ in range(2):
        layer(x), layer.state_dict(), layer.weight.sum()
        layer.gelu(x), layer.add(x, residual)
        with torch.autocast('cpu', torch.bfloat16):
            layer.gelu(x)


def test_weights_in_a_mapped_file_are_used_as_they_are(tmp_path: Path) -> None:
    layer, x, residual = linear_layer()
    torch.save(layer.state_dict(), tmp_path / 'layer.pth')
    expected = layer.gelu(x), layer.add(x, residual)
    layer.load_state_dict(torch.load(tmp_path / 'layer.pth', mmap=True), assign=True)
    torch.testing.assert_close((layer.gelu(x), layer.add(x, residual)), expected)
    layer.weight.data[3, 4] = 5
    torch.testing.assert_close(layer.gelu(x), F.gelu(layer(x)))


def test_a_new_bias_is_used_at_once() -> None:
    layer, x, _ = linear_layer()
    layer.gelu(x)
    with torch.no_grad():
        layer.bias.add_(1)
    torch.testing.assert_close(layer.gelu(x), F.gelu(layer(x)))


def test_weights_made_in_inference_mode_work() -> None:
    with torch.inference_mode():
        layer, x, residual = linear_layer()
        torch.testing.assert_close(layer.add(x, residual), residual + layer(x))

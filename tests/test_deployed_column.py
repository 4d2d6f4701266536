"""A network switched to deploy: the same outputs from fewer weights, saved and loaded."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from revcol_backbone import RevCol
from tests.golden import TOY_ARCHITECTURES, fill, golden_results, image, relative_error

SMALL = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 3, 'long_up': True}
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
        with torch.autocast('cpu', torch.bfloat16):
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

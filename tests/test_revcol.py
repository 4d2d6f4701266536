"""The backbone: equal to the published numbers, on any input, in every mode PyTorch has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from revcol_backbone import VARIANTS, RevCol
from revcol_backbone.shortcut import bounded_alpha
from tests.configs import expected_layer_id
from tests.device import DEVICE
from tests.golden import TOY_ARCHITECTURES, fill, golden_results, image, relative_error
from tests.plain_revcol import plain_revcol

pytestmark = pytest.mark.on_device

SMALL = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 3}
TOLERANCE = 1e-6

architectures = st.fixed_dictionaries(
    {
        'channels': st.tuples(*[st.integers(1, 9)] * 4),
        'layers': st.tuples(*[st.integers(1, 2)] * 4),
        'columns': st.integers(1, 4),
        'long_up': st.booleans(),
    }
)


@pytest.mark.parametrize('name', TOY_ARCHITECTURES)
@pytest.mark.parametrize(
    'memory',
    [{}, *({'save_memory': True, 'anchor_every': every} for every in (0, 1, 2, 4))],
    ids=str,
)
def test_outputs_and_gradients_equal_the_golden_numbers(name: str, memory: dict) -> None:
    golden = golden_results(name)
    model = fill(RevCol(**TOY_ARCHITECTURES[name], **memory)).double()
    x = image((2, 3, 64, 96)).double().requires_grad_()
    outputs = model(x)
    sum((o * image(o.shape, f'probe{i}')).sum() for i, o in enumerate(outputs)).backward()

    for index, output in enumerate(outputs):
        assert relative_error(output, golden[f'out{index}']) < TOLERANCE
    assert relative_error(x.grad, golden['grad_input']) < TOLERANCE
    gradients = {f'grad/{key}': parameter.grad for key, parameter in model.named_parameters()}
    assert gradients.keys() == {key for key in golden if key.startswith('grad/')}
    for key, gradient in gradients.items():
        assert relative_error(gradient, golden[key]) < TOLERANCE, key


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    arch=architectures,
    kernel_size=st.sampled_from([1, 3, 5]),
    height=st.integers(32, 70),
    width=st.integers(32, 70),
)
def test_any_architecture_on_any_size_equals_the_equations(
    arch: dict, kernel_size: int, height: int, width: int
) -> None:
    model = fill(RevCol(arch, kernel_size=kernel_size)).double()
    x = image((1, 3, height, width)).double()
    with torch.no_grad():
        found, expected = model(x), plain_revcol(model.state_dict(), x)
    for level, (output, reference) in enumerate(zip(found, expected, strict=True)):
        assert output.shape[-2:] == (height // 4 // 2**level, width // 4 // 2**level)
        assert relative_error(output, reference) < 1e-10


def test_levels_come_in_the_order_asked_for() -> None:
    x = image((1, 3, 64, 64))
    everything = fill(RevCol(SMALL))(x)
    chosen = fill(RevCol(SMALL, out_indices=(3, 1)))(x)
    torch.testing.assert_close(chosen, (everything[3], everything[1]), rtol=0, atol=0)


@pytest.mark.parametrize('save_memory', [False, True])
@pytest.mark.parametrize('long_up', [False, True])
@pytest.mark.parametrize('out_indices', [(0,), (1, 0), (0, 2), (1,), (2,), (3,)])
def test_what_is_trained_is_what_the_returned_levels_need(
    out_indices: tuple[int, ...], long_up: bool, save_memory: bool
) -> None:
    arch = {**SMALL, 'long_up': long_up}
    whole = fill(RevCol(arch)).double()
    model = fill(RevCol(arch, out_indices=out_indices, save_memory=save_memory)).double()
    x = image((1, 3, 64, 64)).double()
    expected, found = whole(x), model(x)
    torch.testing.assert_close(found, tuple(expected[index] for index in out_indices))
    sum(output.square().sum() for output in found).backward()
    sum(expected[index].square().sum() for index in out_indices).backward()
    known = dict(whole.named_parameters())
    for name, parameter in model.named_parameters():
        gradient = known[name].grad
        assert parameter.requires_grad == (gradient is not None), name
        if gradient is None:
            assert parameter.grad is None, name
        else:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('highest', range(4))
@pytest.mark.parametrize('save_memory', [False, True])
def test_a_pruned_network_computes_the_same_and_holds_nothing_unneeded(
    highest: int, save_memory: bool
) -> None:
    whole, model = fill(RevCol(SMALL)), fill(RevCol(SMALL, save_memory=save_memory))
    model.prune_levels(highest)
    x = image((1, 3, 64, 64))
    found = model(x)
    torch.testing.assert_close(found, whole(x)[: highest + 1])
    sum(output.sum() for output in found).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert (len(model.state_dict()) < len(whole.state_dict())) == (highest < 3)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_shapes_come_from_the_meta_device(dtype: torch.dtype) -> None:
    with torch.device('meta'):
        model = RevCol(SMALL).to(dtype)
    outputs = model(torch.empty(1, 3, 64, 64, device='meta', dtype=dtype))
    assert [output.shape[1:] for output in outputs] == [
        (channels, 16 // 2**level, 16 // 2**level)
        for level, channels in enumerate(SMALL['channels'])
    ]
    assert all(output.dtype == dtype for output in outputs)


def test_images_may_have_another_number_of_channels() -> None:
    model = RevCol(SMALL, in_channels=4)
    assert model(image((1, 4, 32, 32)))[0].shape == (1, 4, 8, 8)
    with pytest.raises(ValueError, match=r'images of shape \(batch, 4, height, width\)'):
        model(image((1, 3, 32, 32)))


@pytest.mark.parametrize('arch', VARIANTS)
def test_layer_depths_are_those_of_the_layer_decay(arch: str) -> None:
    # As mmpretrain's constructor takes them: lr * rate ** (number - depth - 1).
    with torch.device('meta'):
        model = RevCol(arch)
    layers, columns = VARIANTS[arch].layers, VARIANTS[arch].columns
    last = sum(layers) + columns
    for name, _ in model.named_parameters():
        depth, number = model.get_layer_depth(f'backbone.{name}', 'backbone.')
        assert (depth, number) == (expected_layer_id(name, layers), last + 1)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (last, last + 1)


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmseg'])
def test_type_revcol_builds_in_every_library(scope: str) -> None:
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(MODELS.build({'type': 'RevCol', 'arch': SMALL}), RevCol)


def test_alpha_is_never_zero_and_never_rewritten() -> None:
    model = fill(RevCol(SMALL)).double()
    with torch.no_grad():
        model.subnet1.alpha0.zero_()
        model.subnet2.alpha1.fill_(-1e-5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = image((1, 3, 32, 32)).double()
    for is_training in (False, True):
        found = model.train(is_training)(x)
        for output, reference in zip(found, plain_revcol(before, x), strict=True):
            assert relative_error(output, reference) < 1e-10
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('save_memory', [False, True])
@pytest.mark.parametrize('sign', [1, -1])
def test_a_bounded_alpha_is_led_away_from_zero_but_not_through_it(
    save_memory: bool, sign: int
) -> None:
    model = fill(RevCol(SMALL, save_memory=save_memory, anchor_every=1))
    x, rate = image((1, 3, 32, 32)), 1e-5
    alpha = model.subnet1.alpha1

    def step(value: float) -> Tensor:
        """The alpha that the network uses after steps of descent from a value."""
        alpha.data.fill_(value)
        for _ in range(3):
            model.zero_grad()
            sum(output.sum() for output in model(x)).backward()
            alpha.data -= rate * alpha.grad
        return bounded_alpha(alpha.detach()).flatten()

    free = step(sign * 0.01) - sign * 0.01
    assert (free > 0).any()
    assert (free < 0).any()
    bounded = step(sign * 1e-3)
    is_outward = free * sign > 0
    assert (bounded[is_outward] * sign > 1e-3).all()
    assert (bounded[~is_outward] == torch.tensor(sign * 1e-3)).all()


def test_every_parameter_has_a_gradient() -> None:
    model = RevCol(SMALL)
    sum(output.sum() for output in model(image((1, 3, 32, 32)))).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('frozen', [-1, 0, 1, 3])
@pytest.mark.parametrize('save_memory', [False, True])
def test_frozen_columns_stay_in_evaluation_and_get_no_gradients(
    frozen: int, save_memory: bool
) -> None:
    model = RevCol(SMALL, frozen_columns=frozen, drop_path_rate=0.5, save_memory=save_memory)
    frozen_names = ['stem', 'subnet0', 'subnet1', 'subnet2'][: frozen + 1]
    outputs = model.train()(image((2, 3, 32, 32)))
    if frozen < 3:
        sum(output.sum() for output in outputs).backward()
    for name, module in model.named_children():
        assert module.training == (name not in frozen_names)
        for parameter in module.parameters():
            assert (parameter.grad is None) == (name in frozen_names)


def test_initial_weights_follow_the_paper() -> None:
    model = RevCol({'channels': (32, 32, 32, 32), 'layers': (1, 1, 1, 1), 'columns': 2})
    block = model.subnet1.level3.blocks[0]
    assert block.pwconv1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.pwconv1.bias.abs().max() == 0
    assert torch.unique(block.gamma).item() == pytest.approx(1e-6)
    assert torch.unique(model.subnet1.alpha2).item() == 0.5


def test_meta_device_channels_last_and_no_grad() -> None:
    with torch.device('meta'):
        shapes = [tuple(o.shape) for o in RevCol('huge', kernel_size=7)(torch.empty(1, 3, 64, 33))]
    assert shapes == [(1, 360, 16, 8), (1, 720, 8, 4), (1, 1440, 4, 2), (1, 2880, 2, 1)]

    model, x = fill(RevCol(SMALL)), image((2, 3, 40, 56))
    with torch.no_grad():
        plain = model(x)
        last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)
    assert not any(output.requires_grad for output in last)


def test_autocast_keeps_the_features_in_float32() -> None:
    model, x = fill(RevCol(SMALL)), image((1, 3, 64, 64))
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        mixed = model(x)
    for output, reference in zip(mixed, model(x), strict=True):
        assert output.dtype == torch.float32
        assert relative_error(output, reference) < 0.05


@pytest.mark.parametrize('save_memory', [False, True])
def test_compiled_training_computes_the_same(save_memory: bool) -> None:
    model, x = fill(RevCol(SMALL, save_memory=save_memory)), image((1, 3, 64, 48))
    expected = model(x)
    sum(output.sum() for output in expected).backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    model.zero_grad()
    found = torch.compile(model, backend='aot_eager')(x)
    sum(output.sum() for output in found).backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_compiled_inference_computes_the_same() -> None:
    arch = {'channels': (4, 8, 8, 8), 'layers': (1, 1, 1, 1), 'columns': 1}
    model, x = fill(RevCol(arch)).eval(), image((1, 3, 64, 48))
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model)(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'kernel_size': 4}, 'kernel_size=4 is not allowed; give a positive odd integer'),
        ({'kernel_size': -3}, 'positive odd integer'),
        ({'kernel_size': True}, 'kernel_size=True is not allowed'),
        ({'drop_path_rate': None}, 'drop_path_rate=None is not allowed; give 0 <= rate < 1'),
        ({'out_indices': (1.0,)}, r'out_indices=\(1.0,\) is not allowed; .* 0, 1, 2, 3'),
        ({'out_indices': (True,)}, 'out_indices'),
        ({'save_memory': 'off'}, "save_memory='off' is not allowed; give True or False"),
        ({'deploy': 1}, 'deploy=1 is not allowed; give True or False'),
        ({'drop_path_rate': 1.0}, r'drop_path_rate=1\.0 is not allowed; give 0 <= rate < 1'),
        ({'out_indices': (0, 4)}, r'out_indices=\(0, 4\) is not allowed; .* 0, 1, 2, 3'),
        ({'out_indices': (-1,)}, 'out_indices'),
        ({'out_indices': ()}, 'out_indices'),
        ({'out_indices': (1, 1)}, 'names a level twice'),
        ({'frozen_columns': 4}, 'frozen_columns=4 is not allowed; give an integer from -1 to 3'),
        ({'frozen_columns': -2}, 'from -1 to 3'),
        ({'anchor_every': -1}, 'anchor_every=-1 is not allowed; give an integer at least 0'),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RevCol(SMALL, **arguments)


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ((1, 2, 64, 64), r'shape \(1, 2, 64, 64\); it takes images of shape \(batch, 3'),
        ((3, 64, 64), 'it takes images of shape'),
        ((1, 3, 31, 64), '31 x 64 pixels; the height and the width must be at least 32'),
    ],
)
def test_a_bad_input_is_named_with_what_is_allowed(shape: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RevCol(SMALL)(torch.zeros(shape))


@pytest.mark.parametrize('is_list', [False, True])
def test_a_pretrained_file_is_loaded_on_init_weights(tmp_path: Path, is_list: bool) -> None:
    source = fill(RevCol(SMALL))
    torch.save({'model': source.state_dict()}, tmp_path / 'published.pth')
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'published.pth')}
    model = RevCol(SMALL, init_cfg=[init_cfg, {'type': 'Kaiming'}] if is_list else init_cfg)
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


def test_init_cfg_without_a_file_says_what_to_add() -> None:
    model = RevCol(SMALL, init_cfg={'type': 'Pretrained'})
    with pytest.raises(ValueError, match='names no file; add checkpoint=FILE_OR_URL'):
        model.init_weights()

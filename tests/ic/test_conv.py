"""The convolution against its textbook form, numeric derivatives and the paper's physics."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import ConvModule, build_conv_layer
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.ic import ICConv2d, tiled
from tests.device import DEVICE
from tests.ic.textbook import of_channels, randomize, textbook_convolution

pytestmark = pytest.mark.on_device

EXACT = dict(rtol=1e-10, atol=1e-10)


def layer_and_input(
    channels: int = 4, size: tuple[int, int] = (7, 6), batch: int = 2, **arguments
) -> tuple[ICConv2d, Tensor]:
    arguments = dict(in_channels=channels, out_channels=8, kernel_size=3, padding=1) | arguments
    layer = randomize(ICConv2d(dtype=torch.double, collision_start='mean', **arguments))
    x = torch.randn(batch, channels, *size, dtype=torch.double, requires_grad=True)
    return layer, x


@settings(max_examples=80, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.just('same')),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    padding_mode=st.sampled_from(['zeros', 'reflect', 'replicate', 'circular']),
    gain=st.booleans(),
    size=st.tuples(st.integers(7, 11), st.integers(7, 11)),
    channels_last=st.booleans(),
    tile=st.sampled_from([1, 50, 1 << 18]),
)
def test_equals_the_textbook_form_and_its_gradients(
    kernel,
    stride,
    padding,
    dilation,
    groups,
    bias,
    padding_mode,
    gain,
    size,
    channels_last,
    tile,
):
    layer, x = layer_and_input(
        size=size,
        kernel_size=kernel,
        stride=(1, 1) if padding == 'same' else stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
        padding_mode=padding_mode,
        collision_gain=gain,
    )
    if channels_last:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = [x, *layer.parameters()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled, 'TILE_ELEMENTS', tile)
        out = layer(x)
        probe = torch.randn_like(out)
        found = torch.autograd.grad(out, wanted, probe)
        with torch.no_grad():
            without_gradients = layer(x)
    expected_out = textbook_convolution(layer, x)
    expected = torch.autograd.grad(expected_out, wanted, probe)
    torch.testing.assert_close(without_gradients, expected_out, **EXACT)
    for value, reference in zip((out, *found), (expected_out, *expected), strict=True):
        torch.testing.assert_close(value, reference, **EXACT)


def test_physics_start_sums_both_bodies_window_by_window():
    layer = ICConv2d(3, 5, 3, bias=False, dtype=torch.double, collision_start=1)
    x = torch.randn(1, 3, 6, 5, dtype=torch.double)
    out = layer(x)
    for channel in range(5):
        weight = layer.weight[channel]
        for row in range(4):
            for column in range(3):
                window = x[0, :, row : row + 3, column : column + 3]
                expected = (weight * window).sum() + ((weight - 1) * window).sum().relu()
                torch.testing.assert_close(out[0, channel, row, column], expected, **EXACT)


@pytest.mark.parametrize(('weight', 'factor'), [(1.7, 2 * 1.7 - 1), (0.4, 0.4)])
def test_a_heavy_body_gives_both_terms_and_a_light_one_the_first(weight, factor):
    layer = ICConv2d(1, 1, 1, bias=False, dtype=torch.double, collision_start=1)
    nn.init.constant_(layer.weight, weight)
    x = torch.rand(2, 1, 4, 4, dtype=torch.double) + 0.1
    torch.testing.assert_close(layer(x), factor * x, **EXACT)


@pytest.mark.parametrize('gain', [False, True])
@pytest.mark.parametrize(
    'arguments', [dict(), dict(stride=2, groups=2), dict(dilation=2, padding=2, bias=False)]
)
def test_first_and_second_derivatives_are_the_numeric_ones(arguments, gain):
    torch.manual_seed(0)
    arguments = dict(in_channels=2, out_channels=2, collision_gain=gain) | arguments
    layer, x = layer_and_input(2, (4, 3), 1, **arguments)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, parameters, (x,))

    inputs = (x, *layer.parameters())
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


@pytest.mark.parametrize('is_frozen', [False, True])
def test_collision_parameters_train_alone_and_an_in_place_relu_may_follow(is_frozen):
    layer, x = layer_and_input()
    for parameter in (layer.weight, layer.bias):
        parameter.requires_grad_(not is_frozen)
    x = x.detach()
    wanted = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    probe = torch.randn_like(layer(x))
    found = torch.autograd.grad(nn.functional.relu_(layer(x)), wanted, probe)
    expected = torch.autograd.grad(textbook_convolution(layer, x).relu(), wanted, probe)
    assert len(found) == (2 if is_frozen else 4)
    for value, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(value, reference, **EXACT)


@pytest.mark.parametrize('bias', [False, True])
def test_with_a_gain_it_starts_as_the_ordinary_convolution_and_alive(bias):
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 8, 3, padding=1, bias=bias, dtype=torch.double)
    layer = ICConv2d.from_conv(plain, collision_gain=True)
    x = torch.randn(2, 4, 9, 9, dtype=torch.double)
    assert torch.equal(layer(x), plain(x))
    layer(x).square().sum().backward()
    assert layer.collision_gain.grad.abs().min() > 0


def test_parameters_are_named_and_start_as_documented():
    layer = ICConv2d(4, 8, 3, collision_start='mean', collision_gain=True)
    assert {name: tuple(value.shape) for name, value in layer.named_parameters()} == {
        'weight': (8, 4, 3, 3),
        'bias': (8,),
        'collision_weight': (8,),
        'collision_bias': (8,),
        'collision_gain': (8,),
    }
    torch.testing.assert_close(layer.collision_weight, layer.weight.mean((1, 2, 3)))
    assert not layer.collision_bias.any()
    assert not layer.collision_gain.any()
    assert ICConv2d(4, 8, 3, collision_start=0.5).collision_weight.eq(0.5).all()
    assert ICConv2d(4, 8, 3).collision_gain is None
    layer.reset_parameters()
    torch.testing.assert_close(layer.collision_weight, layer.weight.mean((1, 2, 3)))


@pytest.mark.parametrize('gain', [False, True])
def test_the_state_dict_round_trips(gain):
    first, second = (randomize(ICConv2d(4, 8, 3, collision_gain=gain)) for _ in range(2))
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(first(x), second(x))
    assert torch.equal(copy.deepcopy(first)(x), first(x))


@pytest.mark.parametrize('gain', [False, True])
def test_bfloat16_is_right_within_its_rounding(gain):
    torch.manual_seed(0)
    layer = randomize(ICConv2d(64, 64, 3, padding=1, collision_gain=gain), 0.02).bfloat16()
    x = torch.rand(2, 64, 14, 14).bfloat16()
    out = layer(x)
    assert out.dtype is torch.bfloat16
    expected = textbook_convolution(copy.deepcopy(layer).double(), x.double())
    # A few roundings of 2^-9 each, relative to the largest value that is summed.
    assert (out.double() - expected).abs().max() < 4 * 2**-9 * expected.abs().max()
    out.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_autocast_sums_in_float32():
    torch.manual_seed(0)
    layer = randomize(ICConv2d(64, 32, 3, padding=1), 0.02)
    x = torch.rand(2, 64, 14, 14)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        out = layer(x)
    assert out.dtype is torch.bfloat16
    expected = textbook_convolution(layer, x)
    assert (out - expected).abs().max() < 4 * 2**-9 * expected.abs().max()
    out.float().sum().backward()
    assert all(parameter.grad.dtype is torch.float32 for parameter in layer.parameters())


def test_channels_last_goes_through():
    layer = randomize(ICConv2d(8, 16, 3, padding=1))
    x = torch.randn(2, 8, 7, 9).contiguous(memory_format=torch.channels_last)
    for is_enabled in (True, False):
        with torch.set_grad_enabled(is_enabled):
            out = layer(x)
        assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('gain', [False, True])
def test_an_empty_batch_and_one_image_alone_will_do(gain):
    layer = randomize(ICConv2d(4, 8, 3, stride=2, padding=1, collision_gain=gain))
    empty = torch.empty(0, 4, 9, 9, requires_grad=True)
    out = layer(empty)
    assert out.shape == (0, 8, 5, 5)
    out.sum().backward()
    assert not layer.weight.grad.any()
    image = torch.randn(4, 9, 9)
    torch.testing.assert_close(layer(image), layer(image[None])[0])


@pytest.mark.slow
@pytest.mark.parametrize('gain', [False, True])
def test_compiles_whole_with_the_same_results(gain):
    layer = randomize(ICConv2d(4, 8, 3, stride=2, padding=1, collision_gain=gain))
    x = torch.randn(2, 4, 9, 9, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend='aot_eager')
    for found, expected in zip(
        torch.autograd.grad(compiled(x).square().sum(), [x, *layer.parameters()]),
        torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_keeps_the_input_a_mask_and_the_sums_for_the_backward_pass():
    layer = ICConv2d(16, 16, 3, padding=1, bias=False)
    x = torch.randn(2, 16, 20, 20)
    kept: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.update({tensor.data_ptr(): tensor.nbytes}) or tensor,
        lambda tensor: tensor,
    ):
        layer(x)
    own = {tensor.data_ptr() for tensor in (x, *layer.parameters())}
    output = 2 * 16 * 20 * 20
    sums = 2 * 20 * 20 * 4
    rest = sum(size for address, size in kept.items() if address not in own)
    # One byte an element for the mask; window sums, their input, and the bias of 16 channels.
    assert output <= rest <= output + 2 * sums + 8 * 16
    assert x.data_ptr() in kept


def test_a_training_step_holds_at_most_1_4_times_the_memory_of_the_ordinary_one():
    peaks = []
    for kind in (nn.Conv2d, ICConv2d):
        block = nn.Sequential(
            kind(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        )
        x = torch.randn(2, 64, 56, 56, requires_grad=True)
        with LiveBytes() as live:
            block(x).sum().backward()
        peaks.append(live.peak)
    assert peaks[1] < 1.4 * peaks[0]


def test_flop_counters_see_the_ordinary_convolution_alone():
    x = torch.randn(1, 16, 10, 10)
    counts = []
    for layer in (nn.Conv2d(16, 32, 3, padding=1), ICConv2d(16, 32, 3, padding=1)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            layer(x)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 16 * 32 * 9 * 100


def test_mmcv_builds_it_from_a_config():
    cfg = dict(type='ICConv2d', collision_start='mean', collision_gain=True)
    layer = build_conv_layer(cfg, 4, 8, 3, padding=1)
    assert type(layer) is ICConv2d
    assert layer.collision_start == 'mean'
    module = ConvModule(4, 8, 3, conv_cfg=dict(type='ICConv2d'), norm_cfg=dict(type='BN'))
    assert type(module.conv) is ICConv2d
    assert module(torch.randn(1, 4, 5, 5)).shape == (1, 8, 3, 3)


def test_the_gain_only_scales_the_term():
    torch.manual_seed(0)
    layer = randomize(ICConv2d(4, 8, 3, dtype=torch.double, collision_gain=True))
    x = torch.randn(1, 4, 6, 6, dtype=torch.double)
    full = layer(x)
    gain = layer.collision_gain.detach().clone()
    nn.init.zeros_(layer.collision_gain)
    basic = layer(x)
    nn.init.ones_(layer.collision_gain)
    torch.testing.assert_close(full - basic, of_channels(gain) * (layer(x) - basic), **EXACT)

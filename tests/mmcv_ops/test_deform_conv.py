from functools import partial

import mmcv.ops
import numpy as np
import pytest
import reference_operators as reference
import torch
from torch import nn

# stride, padding, dilation, groups, deformable groups
GEOMETRIES = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 2), (2, 0, 1, 2, 4)]
# Gradients of the weights that make the offsets and the mask of a new layer, summed by channel.
NEW_LAYER = [
    *(217.5, 72.5, 588.0, -132.0, 607.5, -477.0, -304.0, 364.0, -675.0),
    *(-825.0, -684.0, -1863.0, -1638.0, 402.5, -2796.0, -1152.0, -2349.0, -2214.0),
    *(101.75, 337.5, 407.25, 895.0, 1706.25, 1552.5, 1300.25, 2190.0, 1815.75),
]
NAMES = ('stride', 'padding', 'dilation', 'groups', 'deform_groups')


def operands(geometry, dtype=torch.double, device='cpu'):
    stride, padding, dilation, groups, deform_groups = geometry
    generator = torch.Generator().manual_seed(0)
    random = partial(torch.randn, generator=generator, dtype=torch.double)
    height, width = ((side + 2 * padding - 2 * dilation - 1) // stride + 1 for side in (6, 5))
    tensors = {
        'input': random(2, 4, 6, 5),
        'offset': 1.5 * random(2, 2 * 9 * deform_groups, height, width),
        'mask': random(2, 9 * deform_groups, height, width).sigmoid(),
        'weight': random(2, 4 // groups, 3, 3),
        'bias': random(2),
    }
    return {name: tensor.to(device, dtype) for name, tensor in tensors.items()}


def version_1(given, geometry):
    tensors = (given[name] for name in ('input', 'offset', 'weight'))
    return mmcv.ops.deform_conv2d(*tensors, *geometry)


def version_2(given, geometry):
    tensors = (given[name] for name in ('input', 'offset', 'mask', 'weight', 'bias'))
    return mmcv.ops.modulated_deform_conv2d(*tensors, *geometry)


def expected(given, geometry, *extra):
    arrays = {name: tensor.double().cpu().numpy() for name, tensor in given.items()}
    return reference.deform_conv(
        arrays['input'],
        arrays['weight'],
        arrays['offset'],
        *(arrays[name] for name in extra),
        **{name: value for name, value in zip(NAMES, geometry, strict=True) if name != 'groups'},
    )


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_version_1_equals_the_loop(geometry, device):
    given = operands(geometry, device=device)
    np.testing.assert_allclose(
        version_1(given, geometry).cpu(), expected(given, geometry), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_version_2_equals_the_loop(geometry, device):
    given = operands(geometry, device=device)
    np.testing.assert_allclose(
        version_2(given, geometry).cpu(),
        expected(given, geometry, 'mask', 'bias'),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('convolve', [version_1, version_2])
def test_gradients_equal_finite_differences(convolve, geometry):
    given = operands(geometry)
    names = [name for name in given if convolve is version_2 or name not in ('mask', 'bias')]

    def convolved(*tensors):
        return convolve(given | dict(zip(names, tensors, strict=True)), geometry)

    assert torch.autograd.gradcheck(
        convolved, [given[name].requires_grad_() for name in names], fast_mode=True
    )


def test_version_2_works_without_bias():
    geometry = GEOMETRIES[0]
    given = operands(geometry)
    output = version_2(given | {'bias': None}, geometry)
    np.testing.assert_allclose(output, expected(given, geometry, 'mask'), rtol=1e-10, atol=1e-12)
    given['weight'].requires_grad_()
    version_2(given | {'bias': None}, geometry).sum().backward()
    assert given['weight'].grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('convolve', [version_1, version_2])
def test_half_precision_rounds_once(convolve, dtype, device):
    given = operands(GEOMETRIES[0], dtype, device)
    wide = {name: tensor.float().requires_grad_() for name, tensor in given.items()}
    exact = convolve(wide, GEOMETRIES[0])
    narrow = {name: tensor.requires_grad_() for name, tensor in given.items()}
    output = convolve(narrow, GEOMETRIES[0])
    assert torch.equal(output, exact.to(dtype))
    output.sum().backward()
    exact.sum().backward()
    assert torch.equal(narrow['offset'].grad, wide['offset'].grad.to(dtype))


@pytest.mark.parametrize('name', ['DeformConv2dPack', 'ModulatedDeformConv2dPack'])
@pytest.mark.parametrize('size', [(2, 4, 9, 8), (1, 4, 2, 2)])
def test_a_new_layer_convolves_like_an_ordinary_one(name, size):
    # Offsets begin at zero, and the masks of version 2 at one half.
    layer = getattr(mmcv.ops, name)(4, 6, 3, padding=1, groups=2, deform_groups=2)
    features = torch.randn(size)
    scale = 0.5 if name.startswith('Modulated') else 1.0
    plain = nn.functional.conv2d(features, layer.weight * scale, padding=1, groups=2)
    torch.testing.assert_close(layer(features), plain)


def test_layers_train_under_autocast(device):
    layer = mmcv.ops.ModulatedDeformConv2dPack(4, 6, 3, padding=1).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        output = layer(torch.randn(2, 4, 8, 8, device=device))
    output.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    assert layer.conv_offset.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('convolve', [version_1, version_2])
def test_points_on_the_border_of_the_outside_have_no_offset_gradient(convolve):
    # One row of cells 1, 2, 4 under a 1 x 1 kernel; the points are at columns -1, 0, 1, 2 and 3.
    given = {
        'input': torch.tensor([[[[1.0, 2.0, 4.0]]]]),
        'offset': torch.zeros(1, 2, 1, 5, requires_grad=True),
        'mask': torch.ones(1, 1, 1, 5),
        'weight': torch.ones(1, 1, 1, 1),
        'bias': torch.zeros(1),
    }
    output = convolve(given, (1, (0, 1), 1, 1, 1))
    assert output.flatten().tolist() == [0, 1, 2, 4, 0]
    output.sum().backward()
    # Below and above the row are zeros; to the right of the last cell too.
    assert given['offset'].grad[0, 0, 0].tolist() == [0, -1, -2, -4, 0]
    assert given['offset'].grad[0, 1, 0].tolist() == [0, 1, 2, -4, 0]


@pytest.mark.parametrize('value', [float('inf'), float('-inf'), 1e30, -1e30, float('nan')])
@pytest.mark.parametrize('convolve', [version_1, version_2])
def test_points_at_infinity_or_nowhere_are_zeros_without_gradients(convolve, value):
    geometry = GEOMETRIES[0]
    given = operands(geometry)
    given['offset'][:, ::3] = value
    far = {**given, 'offset': given['offset'].nan_to_num(100).clamp(-100, 100)}
    results = []
    for case in (given, far):
        tensors = {name: tensor.clone().requires_grad_() for name, tensor in case.items()}
        output = convolve(tensors, geometry)
        output.square().sum().backward()
        results.append([output, *(tensor.grad for tensor in tensors.values())])
    for found, expected in zip(*results, strict=True):
        if expected is not None:
            torch.testing.assert_close(found, expected)
    assert not results[0][2].view(2, -1, *output.shape[2:])[:, ::3].any()


def test_version_2_reads_the_leading_part_of_larger_offsets_and_masks():
    geometry = GEOMETRIES[1]
    given = operands(geometry)
    exact = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    larger = dict(exact)
    for name in ('offset', 'mask'):
        _, channels, height, width = given[name].shape
        values = torch.full((2, channels, height + 2, width + 1), 7.0, dtype=torch.double)
        values.flatten(1)[:, : channels * height * width] = given[name].flatten(1)
        larger[name] = values.requires_grad_()
    output = version_2(larger, geometry)
    assert torch.equal(output, version_2(exact, geometry))
    (output.square().sum() + version_2(exact, geometry).square().sum()).backward()
    for name in ('offset', 'mask'):
        read = exact[name].grad[0].numel()
        gradient = larger[name].grad.flatten(1)
        torch.testing.assert_close(gradient[:, :read].reshape(exact[name].shape), exact[name].grad)
        assert not gradient[:, read:].any()


@pytest.mark.parametrize(('convolve', 'cut'), [(version_1, -1), (version_2, -1), (version_1, 9)])
def test_offsets_of_a_wrong_size_are_one_sentence(convolve, cut):
    given = operands(GEOMETRIES[0])
    shape = list(given['offset'].shape)
    shape[2] += cut
    with pytest.raises(ValueError, match='Deformable convolution got an offset of shape'):
        convolve(given | {'offset': torch.zeros(shape, dtype=torch.double)}, GEOMETRIES[0])


def test_the_first_gradient_of_a_new_layer_is_that_of_mmcv():
    # Numbers of mmcv's CPU operator (2.1.0) for this layer.
    layer = mmcv.ops.ModulatedDeformConv2dPack(1, 1, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1.0, 10).view(1, 1, 3, 3))
    layer(torch.arange(1.0, 10).view(1, 1, 3, 3)).sum().backward()
    found = layer.conv_offset.weight.grad.flatten(1).sum(1)
    torch.testing.assert_close(found, torch.tensor(NEW_LAYER))

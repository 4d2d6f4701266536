from functools import partial

import mmcv.ops
import numpy as np
import pytest
import reference_operators as reference
import torch
from torch import nn

# stride, padding, dilation, groups, deformable groups
GEOMETRIES = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 2), (2, 0, 1, 2, 4)]
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
    with torch.autocast(device, torch.bfloat16):
        output = layer(torch.randn(2, 4, 8, 8, device=device))
    output.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    assert layer.conv_offset.weight.grad.abs().sum() > 0

"""CARAFE against unfolding, its textbook form."""

import mmcv.ops
import pytest
import torch
import torch.nn.functional as F

SIZES = [(1, 1, 1), (3, 2, 2), (5, 4, 3)]  # kernel size, groups, scale


def operands(kernel_size, groups, scale, dtype=torch.double):
    torch.manual_seed(0)
    masks = torch.randn(2, groups * kernel_size**2, 3 * scale, 4 * scale, dtype=torch.double)
    return torch.randn(2, 8, 3, 4, dtype=torch.double).to(dtype), masks.to(dtype)


def unfolded(features, masks, kernel_size, groups, scale):
    windows = F.unfold(features, kernel_size, padding=kernel_size // 2)
    windows = F.interpolate(windows.view(2, -1, 3, 4), scale_factor=scale, mode='nearest')
    windows = windows.view(2, groups, 8 // groups, kernel_size**2, *masks.shape[2:])
    masks = masks.view(2, groups, 1, kernel_size**2, *masks.shape[2:])
    return (windows * masks).sum(3).flatten(1, 2)


@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('operator', [mmcv.ops.carafe, mmcv.ops.carafe_naive])
def test_equals_unfolding(operator, sizes, device):
    features, masks = operands(*sizes)
    found = operator(features.to(device), masks.to(device), *sizes)
    torch.testing.assert_close(found.cpu(), unfolded(features, masks, *sizes))


@pytest.mark.parametrize('sizes', SIZES)
def test_gradients_equal_finite_differences(sizes):
    tensors = [tensor.requires_grad_() for tensor in operands(*sizes)]
    assert torch.autograd.gradcheck(
        lambda *given: mmcv.ops.carafe(*given, *sizes), tensors, fast_mode=True
    )


def test_half_precision_rounds_once():
    features, masks = operands(*SIZES[1], torch.bfloat16)
    found = mmcv.ops.carafe(features, masks, *SIZES[1])
    exact = mmcv.ops.carafe(features.float(), masks.float(), *SIZES[1])
    assert torch.equal(found, exact.bfloat16())


def test_the_layer_of_mmdets_neck_trains():
    layer = mmcv.ops.CARAFEPack(8, scale_factor=2, compressed_channels=4)
    output = layer(torch.randn(1, 8, 5, 6))
    assert output.shape == (1, 8, 10, 12)
    output.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())

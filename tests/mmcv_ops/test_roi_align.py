import mmcv.ops
import numpy as np
import pytest
import reference_operators as reference
import torch

# Inside, over the border, far outside, tiny, and without area (both corners the same).
REGIONS = [
    [0, 1.0, 2.0, 9.0, 7.0],
    [1, -4.0, -3.0, 6.0, 30.0],
    [0, 60.0, 60.0, 70.0, 80.0],
    [1, 5.2, 5.1, 5.6, 5.9],
    [0, 4.0, 4.0, 4.0, 4.0],
]


def features(dtype=torch.double, device='cpu'):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 8, 10, generator=generator, dtype=torch.double).to(device, dtype)


def regions(dtype=torch.double, device='cpu'):
    return torch.tensor(REGIONS, dtype=dtype, device=device)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 1, 2, 3])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_pooled_features_equal_the_loop(mode, sampling_ratio, aligned, device):
    pool = mmcv.ops.RoIAlign((3, 2), 0.6, sampling_ratio, mode, aligned)
    output = pool(features(device=device), regions(device=device))
    expected = reference.roi_align(
        features().numpy(), np.array(REGIONS), (3, 2), 0.6, sampling_ratio, aligned, mode
    )
    np.testing.assert_allclose(output.cpu(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_gradients_equal_finite_differences(mode, sampling_ratio, aligned):
    def pooled(values):
        return mmcv.ops.roi_align(
            values, regions(), (3, 2), 0.6, sampling_ratio, mode, aligned
        ).clamp(min=-100)

    assert torch.autograd.gradcheck(pooled, features().requires_grad_(), fast_mode=True)


def test_values_and_gradients_equal_those_of_torchvision(device):
    results = []
    for use_torchvision in (False, True):
        pool = mmcv.ops.RoIAlign(7, 1.2, 0, use_torchvision=use_torchvision)
        values = features(torch.float, device).requires_grad_()
        output = pool(values, regions(torch.float, device))
        output.square().sum().backward()
        results.append((output, values.grad))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_half_precision_rounds_once(mode, dtype, device):
    values, boxes = features(dtype, device), regions(dtype, device)[:4]
    output = mmcv.ops.roi_align(values, boxes, (3, 2), 0.6, 2, mode, True)
    exact = mmcv.ops.roi_align(values.float(), boxes.float(), (3, 2), 0.6, 2, mode, True)
    assert output.dtype == dtype
    assert torch.equal(output, exact.to(dtype))


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_half_precision_has_gradients(mode, dtype, device):
    gradients = []
    for precision in (dtype, torch.float):
        values = features(dtype, device).to(precision).requires_grad_()
        boxes = regions(dtype, device)[:4].to(precision)
        mmcv.ops.roi_align(values, boxes, (3, 2), 0.6, 2, mode, True).sum().backward()
        gradients.append(values.grad)
    assert gradients[0].dtype == dtype
    torch.testing.assert_close(gradients[0].float(), gradients[1], rtol=2e-2, atol=2e-2)


def test_regions_may_have_another_precision_than_features(device):
    output = mmcv.ops.roi_align(features(torch.half, device), regions(torch.float, device), 2)
    assert output.dtype == torch.half


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_no_regions_give_no_features_and_zero_gradients(mode, device):
    values = features(torch.float, device).requires_grad_()
    output = mmcv.ops.roi_align(values, torch.zeros(0, 5, device=device), 7, 1.0, 0, mode)
    assert output.shape == (0, 3, 7, 7)
    output.sum().backward()
    assert torch.equal(values.grad, torch.zeros_like(values))


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_channels_last_features_and_strided_gradients_give_the_same(mode, device):
    def gradient(values):
        values = values.detach().requires_grad_()
        output = mmcv.ops.roi_align(values, regions(torch.float, device), 3, 0.6, 2, mode)
        output.transpose(2, 3).contiguous().transpose(2, 3).clamp(min=-9).square().sum().backward()
        return output, values.grad

    values = features(torch.float, device)
    torch.testing.assert_close(
        gradient(values), gradient(values.to(memory_format=torch.channels_last))
    )


def test_max_pooling_in_parts_gives_the_same(monkeypatch):
    from revcol_backbone.mmcv_ops import roi_align

    whole = mmcv.ops.roi_align(features(), regions(), 3, 0.6, 2, 'max')
    monkeypatch.setattr(roi_align, 'SAMPLES_AT_ONCE', 1)
    assert torch.equal(mmcv.ops.roi_align(features(), regions(), 3, 0.6, 2, 'max'), whole)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
@pytest.mark.parametrize('column', range(5))
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_a_region_that_is_not_finite_is_one_sentence(mode, sampling_ratio, column, value):
    boxes = regions()
    boxes[3, column] = value
    with pytest.raises(ValueError, match='RoIAlign got a region that is not finite.*index 3'):
        mmcv.ops.roi_align(features(), boxes, 3, 0.6, sampling_ratio, mode)


@pytest.mark.parametrize('image', [-1.0, 2.0])
def test_a_region_of_no_image_of_the_batch_is_one_sentence(image):
    boxes = regions()
    boxes[0, 0] = image
    with pytest.raises(ValueError, match='the batch has images 0 to 1'):
        mmcv.ops.roi_align(features(), boxes, 3, 0.6, 2)


def test_a_region_too_large_to_sample_is_one_sentence():
    boxes = regions()
    boxes[2, 3:] = 1e9
    with pytest.raises(ValueError, match='index 2, whose bins are .* feature cells'):
        mmcv.ops.roi_align(features(), boxes, 3, 0.6, 0)
    assert mmcv.ops.roi_align(features(), boxes, 3, 0.6, 2).isfinite().all()

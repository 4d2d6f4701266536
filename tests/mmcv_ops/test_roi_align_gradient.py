"""The gradient of average RoIAlign by matrix products: that of torchvision's kernel."""

import pytest
import torch

from revcol_backbone.mmcv_ops import roi_align_gradient
from revcol_backbone.mmcv_ops.roi_align_gradient import average_gradient

SHAPE = (2, 8, 13, 17)


def random_regions(count: int, scale: float) -> torch.Tensor:
    """Anywhere about the map, some of them turned inside out."""
    generator = torch.Generator().manual_seed(0)
    extent = torch.tensor([SHAPE[3], SHAPE[2]]) / scale
    corner = torch.rand(count, 2, generator=generator) * 1.4 * extent - 0.2 * extent
    size = torch.rand(count, 2, generator=generator) * extent - 0.1 * extent
    image = torch.randint(0, SHAPE[0], (count, 1), generator=generator)
    return torch.cat([image, corner, corner + size], 1).double()


def both(regions, size, scale, sampling_ratio, aligned):
    gradient = torch.randn(len(regions), SHAPE[1], *size, dtype=torch.double)
    expected = torch.ops.torchvision._roi_align_backward(
        gradient, regions, scale, *size, *SHAPE, sampling_ratio, aligned
    )
    found = average_gradient(gradient, regions, scale, SHAPE, sampling_ratio, aligned)
    return found, expected


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 1, 3])
@pytest.mark.parametrize('size', [(7, 7), (3, 5), (1, 1)])
@pytest.mark.parametrize('scale', [1.0, 1 / 16])
def test_random_regions_give_the_gradient_of_torchvision(size, scale, sampling_ratio, aligned):
    found, expected = both(random_regions(200, scale), size, scale, sampling_ratio, aligned)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_regions_with_very_many_samples_are_left_to_torchvision(monkeypatch):
    monkeypatch.setattr(roi_align_gradient, 'MOST_SAMPLES', 10)
    found, expected = both(random_regions(20, 1.0), (7, 7), 1.0, 0, True)
    assert torch.equal(found, expected)


def test_regions_without_samples_give_nothing():
    regions = torch.tensor([[0, 4, 4, 4, 4], [1, 60, 60, 90, 90]]).double()
    found, expected = both(regions, (7, 7), 1.0, 0, True)
    assert torch.equal(found, expected)
    assert not found.any()

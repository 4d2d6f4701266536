"""Masked convolution: an ordinary one at the chosen places, zero elsewhere."""

import mmcv.ops
import pytest
import torch


@pytest.mark.parametrize(('kernel_size', 'padding'), [(1, 0), (3, 1), (5, 2)])
def test_convolves_at_the_chosen_places(kernel_size, padding, device):
    torch.manual_seed(0)
    layer = mmcv.ops.MaskedConv2d(3, 4, kernel_size, padding=padding).to(device)
    features = torch.randn(1, 3, 7, 6, device=device)
    mask = (torch.rand(1, 7, 6, device=device) < 0.4).float()
    with torch.no_grad():
        torch.testing.assert_close(layer(features, mask), layer(features) * mask)


def test_no_place_gives_zeros():
    layer = mmcv.ops.MaskedConv2d(3, 4, 3, padding=1)
    assert not layer(torch.randn(1, 3, 7, 6), torch.zeros(1, 7, 6)).any()

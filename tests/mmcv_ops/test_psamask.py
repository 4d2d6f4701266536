"""Point-wise spatial attention masks against their definition, pixel by pixel."""

from itertools import product

import mmcv.ops
import pytest
import torch

HEIGHT, WIDTH = 4, 5


def expected(masks, size, kind):
    """out[b, q, p]: what the mask of p has at q (collect), or that of q at p (distribute)."""
    out = torch.zeros(len(masks), HEIGHT * WIDTH, HEIGHT, WIDTH, dtype=masks.dtype)
    pixels = list(product(range(HEIGHT), range(WIDTH)))
    for (row, column), (y, x) in product(pixels, pixels):
        center = (row - y + (size[0] - 1) // 2, column - x + (size[1] - 1) // 2)
        if 0 <= center[0] < size[0] and 0 <= center[1] < size[1]:
            value = masks[:, center[0] * size[1] + center[1], y, x]
            if kind == 'collect':
                out[:, row * WIDTH + column, y, x] = value
            else:
                out[:, y * WIDTH + x, row, column] = value
    return out


@pytest.mark.parametrize('size', [(3, 3), (7, 9), (5, 11)])
@pytest.mark.parametrize('kind', ['collect', 'distribute'])
def test_masks_lie_around_their_pixels(kind, size, device):
    torch.manual_seed(0)
    masks = torch.randn(2, size[0] * size[1], HEIGHT, WIDTH, dtype=torch.double)
    found = mmcv.ops.PSAMask(kind, size)(masks.to(device))
    assert torch.equal(found.cpu(), expected(masks, size, kind))


@pytest.mark.parametrize('kind', ['collect', 'distribute'])
def test_gradients_equal_finite_differences(kind):
    masks = torch.randn(1, 21, HEIGHT, WIDTH, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(mmcv.ops.PSAMask(kind, (3, 7)), masks, fast_mode=True)

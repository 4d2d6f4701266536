"""The pooling that can be exported equals PyTorch's, at every size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from revcol_backbone.export.layers import SymbolicAdaptiveAvgPool2d, replace_adaptive_pools


@pytest.mark.parametrize('bins', [1, 2, 3, 6, (2, 5)])
def test_it_equals_adaptive_average_pooling(bins):
    theirs = nn.AdaptiveAvgPool2d(bins)
    ours = SymbolicAdaptiveAvgPool2d((bins, bins) if isinstance(bins, int) else bins)
    for height in (*range(1, 20), 33, 64):
        x = torch.randn(2, 3, height, 29 - height % 28, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-13, atol=1e-13)


def test_every_pool_of_a_module_is_replaced():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.AdaptiveAvgPool2d(2)))
    x = torch.randn(1, 3, 7, 9)
    expected = module(x)
    replace_adaptive_pools(module)
    torch.testing.assert_close(module(x), expected)
    assert not any(isinstance(child, nn.AdaptiveAvgPool2d) for child in module.modules())

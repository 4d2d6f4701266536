"""The equation of a level, its inverse, and the first column, which has no shortcut."""

from __future__ import annotations

import pytest
import torch

from revcol_backbone.shortcut import (
    ALPHA_MIN,
    add_shortcut,
    invert_shortcut,
    leave_out_shortcut,
)
from tests.golden import image

pytestmark = pytest.mark.on_device


@pytest.mark.parametrize('alpha', [0.5, -0.7, 1e-3, 0.0, -1e-9, 30.0])
def test_the_inverse_gives_back_the_level_of_the_column_before(alpha: float) -> None:
    fused, previous = image((2, 4, 3, 5)).double(), image((2, 4, 3, 5), 'previous').double()
    alpha = torch.full((1, 4, 1, 1), alpha, dtype=torch.float64)
    output = add_shortcut(fused, alpha, previous)
    torch.testing.assert_close(invert_shortcut(output, fused, alpha), previous)
    assert (output - fused).abs().min() >= 0.99 * ALPHA_MIN * previous.abs().min()


@pytest.mark.parametrize('trains', [False, True])
def test_without_a_shortcut_a_level_has_the_precision_of_those_after_it(trains: bool) -> None:
    fused = image((2, 5, 4)).bfloat16()
    alpha = torch.full((4,), 0.5, requires_grad=trains)
    output = leave_out_shortcut(fused, alpha)
    assert output.dtype == add_shortcut(fused, alpha, output).dtype == torch.float32
    assert torch.equal(output, fused.float())
    assert output.requires_grad == trains


@pytest.mark.parametrize('shape', [(5,), (4, 1), (1, 1, 1, 4)])
def test_an_alpha_of_another_shape_is_refused(shape: tuple) -> None:
    level, alpha = image((2, 5, 4)), torch.full(shape, 0.5)
    with pytest.raises(ValueError, match=r'does not fit its level of shape \(2, 5, 4\); give'):
        add_shortcut(level, alpha, level)
    with pytest.raises(ValueError, match='does not fit its level'):
        leave_out_shortcut(level, alpha)

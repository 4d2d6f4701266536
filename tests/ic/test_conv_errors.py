"""What the convolution refuses, each in one sentence that says what is allowed."""

from __future__ import annotations

import pytest
import torch

from revcol_backbone.ic import ICConv2d


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=0), 'in_channels=0 is not allowed; give a positive integer'),
        (dict(out_channels=-1), 'out_channels=-1 is not allowed; give a positive integer'),
        (dict(kernel_size=0), 'kernel_size=0 is not allowed; give a positive integer or two'),
        (dict(kernel_size=(3, 3, 3)), r'kernel_size=\(3, 3, 3\) is not allowed'),
        (dict(groups=3), 'groups=3 is not allowed with in_channels=4 and out_channels=8'),
        (dict(collision_start='half'), "collision_start='half' is not allowed; give a number"),
        (dict(collision_start=True), 'collision_start=True is not allowed'),
    ],
)
def test_refuses_arguments_that_there_are_not(arguments, message):
    with pytest.raises(ValueError, match=message):
        ICConv2d(**(dict(in_channels=4, out_channels=8, kernel_size=3) | arguments))


@pytest.mark.parametrize('shape', [(1, 3, 8, 8), (4, 8), (1, 1, 4, 8, 8)])
def test_refuses_inputs_of_other_channels_or_dimensions(shape):
    with pytest.raises(ValueError, match=r'it takes \(batch, 4, height, width\)'):
        ICConv2d(4, 8, 3)(torch.zeros(shape))


def test_an_input_smaller_than_the_kernel_is_torch_s_own_error():
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        ICConv2d(4, 8, 5)(torch.zeros(1, 4, 3, 3))

"""The involution operator for given kernels, against an unfolded sum and numeric derivatives."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.involution import gathered, involution, multiply_adds, shifted

pytestmark = pytest.mark.on_device


def unfolded(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """The definition, with every window written out."""
    batch, groups, positions, height, width = kernel.shape
    size = round(positions**0.5)
    windows = F.unfold(x, size, padding=size // 2, stride=stride)
    windows = windows.view(batch, groups, -1, positions, height, width)
    return (kernel.unsqueeze(2) * windows).sum(3).flatten(1, 2)


def arguments(batch=2, channels=32, height=9, width=7, size=7, stride=1, dtype=torch.double):
    x = torch.randn(batch, channels, height, width, dtype=dtype, requires_grad=True)
    rows, columns = -(-height // stride), -(-width // stride)
    kernel = torch.randn(
        batch, channels // 16, size * size, rows, columns, dtype=dtype, requires_grad=True
    )
    return x, kernel


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    size=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 4),
    tile=st.sampled_from([1, 500, 1 << 20]),
)
def test_equals_the_unfolded_sum_and_its_gradients(
    batch, groups, height, width, size, stride, tile
):
    x, kernel = arguments(batch, 16 * groups, height, width, size, stride)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shifted, 'TILE_ELEMENTS', tile)
        patch.setattr(gathered, 'ROWS', tile)
        out = involution(x, kernel, stride)
        probe = torch.randn_like(out)
        found = torch.autograd.grad(out, (x, kernel), probe)
        forms = [
            form.aggregate(x.detach(), kernel.detach(), stride) for form in (gathered, shifted)
        ]
    expected_out = unfolded(x, kernel, stride)
    expected = torch.autograd.grad(expected_out, (x, kernel), probe)
    for value, reference in zip((out, *found), (expected_out, *expected), strict=True):
        torch.testing.assert_close(value, reference)
    for value in forms:
        torch.testing.assert_close(value, expected_out)


@pytest.mark.parametrize('size', [(7, 9), (95, 93)])
@pytest.mark.parametrize('stride', [1, 2])
def test_small_and_large_outputs_equal_the_unfolded_sum(size, stride):
    x, kernel = arguments(1, 16, *size, size=3, stride=stride)
    torch.testing.assert_close(involution(x, kernel, stride), unfolded(x, kernel, stride))


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_gathering_and_shifting_agree(stride, dtype):
    x, kernel = (tensor.detach() for tensor in arguments(channels=48, stride=stride, dtype=dtype))
    torch.testing.assert_close(
        gathered.aggregate(x, kernel, stride), shifted.aggregate(x, kernel, stride)
    )


@pytest.mark.parametrize('stride', [1, 2])
def test_first_and_second_derivatives_are_the_numeric_ones(stride):
    inputs = arguments(batch=1, channels=32, height=3, width=2, size=3, stride=stride)
    assert gradcheck(lambda x, kernel: involution(x, kernel, stride), inputs)
    assert gradgradcheck(lambda x, kernel: involution(x, kernel, stride), inputs, fast_mode=True)


def test_keeps_nothing_but_its_two_arguments():
    x, kernel = arguments()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor
    ):
        out = involution(x, kernel)
    assert {tensor.data_ptr() for tensor in saved} == {x.data_ptr(), kernel.data_ptr()}
    reference = weakref.ref(out)
    del out
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize('size', [1, 7])
def test_results_can_be_changed_in_place(size):
    x, kernel = arguments(size=size)
    out = involution(x, kernel)
    gradients = torch.autograd.grad(out.square().sum(), (x, kernel), create_graph=True)
    for result in (out, *gradients):
        result.relu_()


@pytest.mark.parametrize('wanted', [0, 1])
def test_computes_the_gradient_of_one_argument_alone(wanted):
    inputs = arguments()
    inputs[1 - wanted].requires_grad_(False)
    both = [tensor.detach().requires_grad_() for tensor in inputs]
    (found,) = torch.autograd.grad(involution(*inputs).square().sum(), inputs[wanted])
    expected = torch.autograd.grad(involution(*both).square().sum(), both)[wanted]
    torch.testing.assert_close(found, expected)


def test_flop_counters_see_its_multiply_adds():
    x, kernel = arguments(stride=2)
    with FlopCounterMode(display=False) as counter:
        involution(x, kernel, 2).sum().backward()
    forward = 2 * 32 * 49 * 5 * 4
    assert multiply_adds(kernel.shape, x.shape[1]) == forward
    # Forward and one transpose for each argument; two operations a multiply-add.
    assert counter.get_total_flops() == 3 * 2 * forward


def test_mixed_dtypes_give_the_wider_one():
    x, kernel = arguments(dtype=torch.float32)
    assert involution(x.bfloat16(), kernel).dtype is torch.float32


@pytest.mark.parametrize(
    ('x', 'kernel', 'stride', 'message'),
    [
        ((1, 32, 8, 8), (1, 2, 9, 8, 8), 0, 'stride=0 is not allowed'),
        ((32, 8, 8), (1, 2, 9, 8, 8), 1, r'give \(B, C, H, W\) and \(B, G, K \* K'),
        ((1, 32, 8, 8), (1, 2, 8, 8, 8), 1, '8 positions; give the square of an odd number'),
        ((1, 32, 8, 8), (1, 3, 9, 8, 8), 1, "3 groups; their number must divide the input's 32"),
        ((1, 32, 8, 8), (1, 2, 9, 8, 8), 2, r'at stride 2 needs \(1, 2, 9, 4, 4\)'),
    ],
)
def test_refuses_shapes_that_do_not_belong_together(x, kernel, stride, message):
    with pytest.raises(ValueError, match=message):
        involution(torch.zeros(x), torch.zeros(kernel), stride)

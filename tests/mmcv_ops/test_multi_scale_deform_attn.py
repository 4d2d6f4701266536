from functools import partial

import numpy as np
import pytest
import reference_operators as reference
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

SHAPES = [[4, 5], [2, 3]]


def operands(dtype=torch.double, device='cpu'):
    random = partial(torch.rand, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    tensors = (
        random(2, 26, 2, 3) - 0.5,
        random(2, 4, 2, 2, 3, 2) * 1.4 - 0.2,  # some locations lie outside
        random(2, 4, 2, 2, 3),
    )
    return [tensor.to(device, dtype) for tensor in tensors]


def attend(value, locations, weights, starts=(0, 20)):
    shapes, starts = torch.tensor(SHAPES), torch.tensor(starts)
    return MultiScaleDeformableAttnFunction.apply(
        value, shapes.to(value.device), starts.to(value.device), locations, weights, 64
    )


def test_attention_equals_the_loop(device):
    value, locations, weights = operands()
    expected = reference.multi_scale_attention(
        value.numpy(), SHAPES, locations.numpy(), weights.numpy()
    )
    np.testing.assert_allclose(attend(*operands(device=device)).cpu(), expected, rtol=1e-10)


def test_gradients_equal_finite_differences():
    inputs = [tensor.requires_grad_() for tensor in operands()]
    assert torch.autograd.gradcheck(attend, inputs, fast_mode=True)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_rounds_once(dtype, device):
    narrow = [tensor.requires_grad_() for tensor in operands(dtype, device)]
    wide = [tensor.detach().float().requires_grad_() for tensor in narrow]
    output, exact = attend(*narrow), attend(*wide)
    assert torch.equal(output, exact.to(dtype))
    output.sum().backward()
    exact.sum().backward()
    for half, single in zip(narrow, wide, strict=True):
        assert torch.equal(half.grad, single.grad.to(dtype))


def test_levels_that_do_not_follow_each_other_are_refused():
    with pytest.raises(ValueError, match=r'start at features \[6, 0\].*at \[0, 20\]'):
        attend(*operands(), starts=(6, 0))


def test_the_layer_trains(device):
    layer = MultiScaleDeformableAttention(16, 2, 2, 3, batch_first=True).to(device)
    query = torch.randn(2, 26, 16, device=device)
    output = layer(
        query,
        reference_points=torch.rand(2, 26, 2, 2, device=device),
        spatial_shapes=torch.tensor(SHAPES, device=device),
        level_start_index=torch.tensor([0, 20], device=device),
    )
    assert output.shape == query.shape
    output.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())

"""Multi-scale deformable attention (Zhu et al., 2021, Deformable DETR) of ``mmcv._ext``.

mmcv calls these for tensors on a GPU only; on the CPU it has its own path.
"""

from itertools import accumulate

import torch
from torch import Tensor

from revcol_backbone.mmcv_ops.precision import at_least_float32


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sum bilinear samples of all levels, weighted by the attention.

    Args:
        value: (B, K, heads, D) features of all levels, one after the other.
        value_spatial_shapes: (levels, 2) heights and widths; their products add up to K.
        value_level_start_index: (levels,) first feature of each level.
        sampling_locations: (B, Q, heads, levels, points, 2) as x, y in [0, 1].
        attention_weights: (B, Q, heads, levels, points).
        im2col_step: Serves mmcv's own kernel and is not used.

    Returns:
        (B, Q, heads x D).

    Raises:
        ValueError: If the levels do not lie one after the other.
    """
    shapes = _level_shapes(value_spatial_shapes, value_level_start_index)
    tensors = at_least_float32(value, sampling_locations, attention_weights)
    return _attend(shapes, *tensors).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Add the gradients to the three ``grad_`` tensors, by running the forward pass again."""
    shapes = _level_shapes(value_spatial_shapes, value_level_start_index)
    tensors = at_least_float32(value, sampling_locations, attention_weights)
    with torch.enable_grad():
        inputs = [tensor.detach().requires_grad_() for tensor in tensors]
        output = _attend(shapes, *inputs)
    gradients = torch.autograd.grad(output, inputs, grad_output.to(output.dtype))
    targets = (grad_value, grad_sampling_loc, grad_attn_weight)
    for target, gradient in zip(targets, gradients, strict=True):
        target.add_(gradient)


def _attend(
    shapes: list[list[int]], value: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    # At import mmcv is still loading the module that asks for these operators.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, shapes, sampling_locations, attention_weights)


def _level_shapes(shapes: Tensor, start_index: Tensor) -> list[list[int]]:
    sizes, starts = shapes.tolist(), start_index.tolist()
    expected = list(accumulate((height * width for height, width in sizes), initial=0))[:-1]
    if starts != expected:
        raise ValueError(
            f'Levels of shapes {sizes} start at features {starts}, but without a compiled mmcv '
            f'they have to lie one after the other, at {expected}.'
        )
    return sizes

"""Deformable convolution v1 (Dai et al., 2017) and v2 (Zhu et al., 2019) of ``mmcv._ext``.

Argument names are mmcv's, since mmcv passes them by name; the buffers ``columns`` and ``ones``
and the limit ``im2col_step`` serve mmcv's own kernels and are not used. Shapes: input
(B, C, H, W), weight (O, C / group, kernel height, kernel width), offset (B, 2 x deformable groups
x kernel cells, output height, output width) as y, x pairs, mask half as many channels.

torchvision's kernels compute; :mod:`.deform_sampling` makes them agree with mmcv's where the two
differ.
"""

# ruff: noqa: N803

from typing import NamedTuple

import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from revcol_backbone.mmcv_ops.deform_sampling import (
    Geometry,
    keep_leading,
    move_outside,
    output_size,
    pad_gradient,
)
from revcol_backbone.mmcv_ops.precision import at_least_float32


class Gradients(NamedTuple):
    """Gradients in the order of torchvision's backward operator."""

    input: Tensor
    weight: Tensor
    offset: Tensor
    mask: Tensor
    bias: Tensor


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write the convolution (v1, without bias) into ``output``."""
    geometry = Geometry(dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_convolve(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Add the gradients of the input and the offset to ``gradInput`` and ``gradOffset``."""
    geometry = Geometry(dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    gradients = _differentiate(gradOutput, input, weight, offset, None, geometry)
    gradInput.add_(gradients.input)
    gradOffset.add_(gradients.offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the gradient of the weight to ``gradWeight``."""
    geometry = Geometry(dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    # The weight's gradient depends on its shape, not on its values.
    weight = torch.zeros_like(gradWeight)
    gradients = _differentiate(gradOutput, input, weight, offset, None, geometry)
    gradWeight.add_(gradients.weight.to(gradWeight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write the modulated convolution (v2) into ``output``."""
    geometry = Geometry(
        stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group
    )
    output.copy_(_convolve(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Add the gradients of all inputs to the ``grad_`` tensors (the bias's if ``with_bias``)."""
    geometry = Geometry(
        stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group
    )
    gradients = _differentiate(grad_output, input, weight, offset, mask, geometry)
    grad_input.add_(gradients.input)
    grad_weight.add_(gradients.weight)
    grad_offset.add_(gradients.offset)
    grad_mask.add_(gradients.mask)
    if with_bias:
        grad_bias.add_(gradients.bias)


def _convolve(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    bias = input.new_zeros(weight.size(0)) if bias is None else bias
    offset, used_mask = _sampling(input, weight, offset, mask, geometry)
    tensors = at_least_float32(input, weight, offset, used_mask, bias)
    return torch.ops.torchvision.deform_conv2d(*tensors, *geometry, mask is not None)


def _differentiate(
    gradient: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: Geometry,
) -> Gradients:
    bias = input.new_zeros(weight.size(0))
    used_offset, used_mask = _sampling(input, weight, offset, mask, geometry)
    tensors = at_least_float32(gradient, input, weight, used_offset, used_mask, bias)
    found = Gradients(
        *torch.ops.torchvision._deform_conv2d_backward(*tensors, *geometry, mask is not None)
    )
    if mask is None:
        return found
    return found._replace(
        offset=pad_gradient(found.offset, offset), mask=pad_gradient(found.mask, mask)
    )


def _sampling(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """Offsets and mask for torchvision's operators, which ignore the mask given for ``None``."""
    size = output_size(input, weight, geometry)
    cells = geometry.deformable_group * weight.size(2) * weight.size(3)
    if mask is not None:
        offset = keep_leading(offset, 'an offset', 2 * cells, size)
        mask = keep_leading(mask, 'a mask', cells, size)
    elif offset.shape[1:] != (2 * cells, *size):
        raise ValueError(
            f'Deformable convolution got an offset of shape {tuple(offset.shape)}; its output of '
            f'{size[0]} x {size[1]} needs ({input.size(0)}, {2 * cells}, {size[0]}, {size[1]}).'
        )
    (offset,) = at_least_float32(offset)
    offset = move_outside(offset, input.shape[2:], weight.shape[2:], geometry)
    return offset, input.new_zeros((input.size(0), 1)) if mask is None else mask

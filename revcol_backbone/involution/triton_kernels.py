"""The involution on GPUs: one Triton kernel for the operator and one for each of its transposes.

Each program works on a run of pixels of one group: the group's channels share what it reads of the
kernels, and every sum is kept in registers, in float32 or wider. Nothing is padded or unfolded in
memory. Arguments and results are those of :mod:`revcol_backbone.involution.shifted`.

Importing this module needs Triton.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 128


def aggregate(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Sum every pixel's window, weighted by that pixel's kernel; as :func:`.shifted.aggregate`."""
    x, kernel = x.contiguous(), kernel.contiguous()
    out = x.new_empty(*x.shape[:2], *kernel.shape[-2:])
    _launch(_aggregate_kernel, (x, kernel, out), x.shape, kernel.shape, stride, out)
    return out


def input_gradient(
    grad: Tensor, kernel: Tensor, input_shape: tuple[int, ...], stride: int
) -> Tensor:
    """Apply the transpose in the input; as :func:`.shifted.input_gradient`."""
    grad, kernel = grad.contiguous(), kernel.contiguous()
    out = grad.new_empty(input_shape)
    _launch(_input_gradient_kernel, (grad, kernel, out), input_shape, kernel.shape, stride, out)
    return out


def kernel_gradient(grad: Tensor, x: Tensor, kernel_shape: tuple[int, ...], stride: int) -> Tensor:
    """Apply the transpose in the kernels; as :func:`.shifted.kernel_gradient`."""
    grad, x = grad.contiguous(), x.contiguous()
    out = grad.new_empty(kernel_shape)
    _launch(_kernel_gradient_kernel, (grad, x, out), x.shape, kernel_shape, stride, grad)
    return out


def _launch(kernel, tensors, input_shape, kernel_shape, stride: int, pixels_of: Tensor) -> None:
    """Run a kernel with one program for each group and each run of the pixels of a tensor."""
    batch, channels, height, width = input_shape
    _, groups, positions, out_height, out_width = kernel_shape
    group_width = channels // groups
    pixels = pixels_of.shape[-2] * pixels_of.shape[-1]
    if not pixels_of.numel():
        return
    # Groups come first: that axis of a CUDA grid has no small limit.
    grid = (batch * groups, triton.cdiv(pixels, PIXELS))
    with torch.cuda.device_of(pixels_of):
        kernel[grid](
            *tensors,
            height,
            width,
            out_height,
            out_width,
            stride=stride,
            size=math.isqrt(positions),
            group_width=group_width,
            channels=triton.next_power_of_2(group_width),
            run=PIXELS,
            sum_dtype=tl.float64 if pixels_of.dtype is torch.float64 else tl.float32,
        )


@triton.jit
def _aggregate_kernel(
    x,
    kernel,
    out,
    height,
    width,
    out_height,
    out_width,
    stride: tl.constexpr,
    size: tl.constexpr,
    group_width: tl.constexpr,
    channels: tl.constexpr,
    run: tl.constexpr,
    sum_dtype: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * run + tl.arange(0, run)
    channel = tl.arange(0, channels)
    pixels = out_height * out_width
    inside = pixel < pixels
    top = pixel // out_width * stride - size // 2
    left = pixel % out_width * stride - size // 2
    plane = (group * group_width + channel[:, None]) * height * width
    weights = kernel + group * size * size * pixels + pixel
    total = tl.zeros((channels, run), dtype=sum_dtype)
    for row in range(size):
        for column in range(size):
            y = top + row
            z = left + column
            seen = inside & (y >= 0) & (y < height) & (z >= 0) & (z < width)
            weight = tl.load(weights + (row * size + column) * pixels, mask=seen, other=0)
            mask = seen[None, :] & (channel < group_width)[:, None]
            value = tl.load(x + plane + (y * width + z)[None, :], mask=mask, other=0)
            total += value.to(sum_dtype) * weight.to(sum_dtype)[None, :]
    plane = (group * group_width + channel[:, None]) * pixels
    mask = inside[None, :] & (channel < group_width)[:, None]
    tl.store(out + plane + pixel[None, :], total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _input_gradient_kernel(
    grad,
    kernel,
    out,
    height,
    width,
    out_height,
    out_width,
    stride: tl.constexpr,
    size: tl.constexpr,
    group_width: tl.constexpr,
    channels: tl.constexpr,
    run: tl.constexpr,
    sum_dtype: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * run + tl.arange(0, run)
    channel = tl.arange(0, channels)
    pixels = out_height * out_width
    inside = pixel < height * width
    # The windows that see a pixel at (row, column) are centred this far below and right of it.
    bottom = pixel // width + size // 2
    right = pixel % width + size // 2
    plane = (group * group_width + channel[:, None]) * pixels
    weights = kernel + group * size * size * pixels
    total = tl.zeros((channels, run), dtype=sum_dtype)
    for row in range(size):
        for column in range(size):
            y = bottom - row
            z = right - column
            seen = inside & (y >= 0) & (z >= 0) & (y % stride == 0) & (z % stride == 0)
            y = y // stride
            z = z // stride
            seen = seen & (y < out_height) & (z < out_width)
            source = y * out_width + z
            weight = tl.load(weights + (row * size + column) * pixels + source, mask=seen, other=0)
            mask = seen[None, :] & (channel < group_width)[:, None]
            value = tl.load(grad + plane + source[None, :], mask=mask, other=0)
            total += value.to(sum_dtype) * weight.to(sum_dtype)[None, :]
    plane = (group * group_width + channel[:, None]) * height * width
    mask = inside[None, :] & (channel < group_width)[:, None]
    tl.store(out + plane + pixel[None, :], total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _kernel_gradient_kernel(
    grad,
    x,
    out,
    height,
    width,
    out_height,
    out_width,
    stride: tl.constexpr,
    size: tl.constexpr,
    group_width: tl.constexpr,
    channels: tl.constexpr,
    run: tl.constexpr,
    sum_dtype: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * run + tl.arange(0, run)
    channel = tl.arange(0, channels)
    pixels = out_height * out_width
    inside = pixel < pixels
    top = pixel // out_width * stride - size // 2
    left = pixel % out_width * stride - size // 2
    in_group = (channel < group_width)[:, None]
    plane = (group * group_width + channel[:, None]) * pixels
    value = tl.load(grad + plane + pixel[None, :], mask=inside[None, :] & in_group, other=0)
    value = value.to(sum_dtype)
    plane = (group * group_width + channel[:, None]) * height * width
    target = out + group * size * size * pixels + pixel
    for row in range(size):
        for column in range(size):
            y = top + row
            z = left + column
            seen = inside & (y >= 0) & (y < height) & (z >= 0) & (z < width)
            source = tl.load(
                x + plane + (y * width + z)[None, :], mask=seen[None, :] & in_group, other=0
            )
            total = tl.sum(value * source.to(sum_dtype), axis=0)
            tl.store(
                target + (row * size + column) * pixels,
                total.to(out.dtype.element_ty),
                mask=inside,
            )

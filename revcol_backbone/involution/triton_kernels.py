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
    # One axis: the others of a CUDA grid end at 65535.
    grid = (batch * groups * triton.cdiv(pixels, PIXELS),)
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
    pixels = out_height * out_width
    group, pixel = _locate(pixels, run)
    inside = pixel < pixels
    channel, in_group = _channels(group, group_width, channels)
    top = pixel // out_width * stride - size // 2
    left = pixel % out_width * stride - size // 2
    planes = x + channel * (height * width)
    weights = kernel + group * size * size * pixels + pixel
    total = tl.zeros((channels, run), dtype=sum_dtype)
    for row in range(size):
        for column in range(size):
            value = _load(planes, top + row, left + column, height, width, inside, in_group)
            weight = tl.load(weights, mask=inside, other=0)
            total += value.to(sum_dtype) * weight.to(sum_dtype)[None, :]
            weights += pixels
    target = out + channel * pixels + pixel[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=in_group & inside[None, :])


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
    pixels = out_height * out_width
    group, pixel = _locate(height * width, run)
    inside = pixel < height * width
    channel, in_group = _channels(group, group_width, channels)
    # The windows that see a pixel at (row, column) are centered this far below and right of it.
    bottom = pixel // width + size // 2
    right = pixel % width + size // 2
    planes = grad + channel * pixels
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
            value = _load(planes, y, z, out_height, out_width, seen, in_group)
            weight = tl.load(weights + (y * out_width + z), mask=seen, other=0)
            total += value.to(sum_dtype) * weight.to(sum_dtype)[None, :]
            weights += pixels
    target = out + channel * (height * width) + pixel[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=in_group & inside[None, :])


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
    pixels = out_height * out_width
    group, pixel = _locate(pixels, run)
    inside = pixel < pixels
    channel, in_group = _channels(group, group_width, channels)
    top = pixel // out_width * stride - size // 2
    left = pixel % out_width * stride - size // 2
    planes = x + channel * (height * width)
    source = grad + channel * pixels + pixel[None, :]
    value = tl.load(source, mask=in_group & inside[None, :], other=0).to(sum_dtype)
    target = out + group * size * size * pixels + pixel
    for row in range(size):
        for column in range(size):
            seen = _load(planes, top + row, left + column, height, width, inside, in_group)
            total = tl.sum(value * seen.to(sum_dtype), axis=0)
            tl.store(target, total.to(out.dtype.element_ty), mask=inside)
            target += pixels


@triton.jit
def _locate(pixels, run: tl.constexpr):
    """Give a program its group, in 64 bits as every offset that grows from it, and its pixels."""
    runs = tl.cdiv(pixels, run)
    program = tl.program_id(0)
    return (program // runs).to(tl.int64), program % runs * run + tl.arange(0, run)


@triton.jit
def _channels(group, group_width: tl.constexpr, channels: tl.constexpr):
    """Number a group's channels, and say which belong to it: Triton's blocks are powers of 2."""
    channel = tl.arange(0, channels)[:, None]
    return group * group_width + channel, channel < group_width


@triton.jit
def _load(planes, y, z, height, width, wanted, in_group):
    """Load the pixels (y, z) of a group's planes (channels, 1); zeros where there are none."""
    wanted = wanted & (y >= 0) & (y < height) & (z >= 0) & (z < width)
    return tl.load(planes + (y * width + z)[None, :], mask=in_group & wanted[None, :], other=0)

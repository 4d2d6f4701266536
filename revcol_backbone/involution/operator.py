"""The involution operator for given kernels, with gradients of every order.

The operator is linear in its input and in its kernels. So three functions are each other's
gradients: the operator itself, its transpose in the input and its transpose in the kernels. Each is
a custom operator of PyTorch, which ``torch.compile`` takes into its graphs whole; autograd keeps
nothing of it but its two arguments.

On a GPU where Triton is installed they run :mod:`.triton_kernels`, everywhere else
:mod:`.shifted`. On CPUs the operator itself runs :mod:`.gathered` at the sizes where that is
faster, and all three run :mod:`.native` once the user has asked for it.
"""

import functools
import math
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor, library
from torch.utils.flop_counter import register_flop_formula

from revcol_backbone.involution import gathered, native, shifted


def involution(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Weight the window around each pixel by the kernel of that pixel, and sum it.

    Equation 4 of arXiv 2103.06255: ``out[b, g, c, h, w]`` is the sum over the K * K positions k of
    ``kernel[b, g, k, h, w] * x[b, g, c, position k around (h * stride, w * stride)]``, with zeros
    outside the input. The kernels are shared by the C / G channels of a group.

    Args:
        x: Input (B, C, H, W), in any memory format.
        kernel: Kernels (B, G, K * K, ceil(H / stride), ceil(W / stride)); K odd, G divides C.
        stride: Step between window centers, in pixels. Default 1.

    Returns:
        (B, C, ceil(H / stride), ceil(W / stride)), in the wider of the two dtypes. Half precision
        is summed in float32.

    Raises:
        ValueError: The shapes do not belong together, or ``stride`` is below 1.
    """
    _check_shapes(x, kernel, stride)
    dtype = torch.promote_types(x.dtype, kernel.dtype)
    return _aggregate(x.to(dtype), kernel.to(dtype), stride)


def multiply_adds(kernel_shape: Sequence[int], channels: int) -> int:
    """Count the multiply-adds of one call of :func:`involution`.

    Generating the kernels is not part of it: those are convolutions, which any counter sees.

    Args:
        kernel_shape: (B, G, K * K, H', W').
        channels: C.
    """
    batch, _, positions, height, width = kernel_shape
    return batch * channels * positions * height * width


@library.custom_op('revcol_backbone::involution', mutates_args=())
def _aggregate(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    if x.device.type == 'cpu' and not native.takes(x) and gathered.is_faster(kernel, stride):
        return gathered.aggregate(x, kernel, stride)
    return _backend(x).aggregate(x, kernel, stride)


@library.custom_op('revcol_backbone::involution_input_gradient', mutates_args=())
def _input_gradient(
    grad: Tensor, kernel: Tensor, input_shape: Sequence[int], stride: int
) -> Tensor:
    return _backend(grad).input_gradient(grad, kernel, tuple(input_shape), stride)


@library.custom_op('revcol_backbone::involution_kernel_gradient', mutates_args=())
def _kernel_gradient(grad: Tensor, x: Tensor, kernel_shape: Sequence[int], stride: int) -> Tensor:
    return _backend(grad).kernel_gradient(grad, x, tuple(kernel_shape), stride)


def _backend(tensor: Tensor) -> ModuleType:
    if tensor.is_cuda and _has_triton():
        from revcol_backbone.involution import triton_kernels

        return triton_kernels
    return native if native.takes(tensor) else shifted


@functools.cache
def _has_triton() -> bool:
    return find_spec('triton') is not None


def _save(ctx, inputs, output) -> None:
    first, second, *sizes = inputs
    ctx.save_for_backward(first, second)
    ctx.sizes = sizes


def _aggregate_backward(ctx, grad):
    x, kernel = ctx.saved_tensors
    (stride,) = ctx.sizes
    need_x, need_kernel, _ = ctx.needs_input_grad
    return (
        _input_gradient(grad, kernel, x.shape, stride) if need_x else None,
        _kernel_gradient(grad, x, kernel.shape, stride) if need_kernel else None,
        None,
    )


def _input_gradient_backward(ctx, direction):
    grad, kernel = ctx.saved_tensors
    _, stride = ctx.sizes
    need_grad, need_kernel, *_ = ctx.needs_input_grad
    return (
        _aggregate(direction, kernel, stride) if need_grad else None,
        _kernel_gradient(grad, direction, kernel.shape, stride) if need_kernel else None,
        None,
        None,
    )


def _kernel_gradient_backward(ctx, direction):
    grad, x = ctx.saved_tensors
    _, stride = ctx.sizes
    need_grad, need_x, *_ = ctx.needs_input_grad
    return (
        _aggregate(x, direction, stride) if need_grad else None,
        _input_gradient(grad, direction, x.shape, stride) if need_x else None,
        None,
        None,
    )


_aggregate.register_autograd(_aggregate_backward, setup_context=_save)
_input_gradient.register_autograd(_input_gradient_backward, setup_context=_save)
_kernel_gradient.register_autograd(_kernel_gradient_backward, setup_context=_save)


@_aggregate.register_fake
def _(x, kernel, stride):
    return x.new_empty(*x.shape[:2], *kernel.shape[-2:])


@_input_gradient.register_fake
def _(grad, kernel, input_shape, stride):
    return grad.new_empty(input_shape)


@_kernel_gradient.register_fake
def _(grad, x, kernel_shape, stride):
    return grad.new_empty(kernel_shape)


# FlopCounterMode counts a multiply-add as two operations.
@register_flop_formula(torch.ops.revcol_backbone.involution)
def _aggregate_flops(x_shape, kernel_shape, stride, out_shape=None, **kwargs) -> int:
    return 2 * multiply_adds(kernel_shape, x_shape[1])


@register_flop_formula(torch.ops.revcol_backbone.involution_input_gradient)
def _input_gradient_flops(grad_shape, kernel_shape, *sizes, out_shape=None, **kwargs) -> int:
    return 2 * multiply_adds(kernel_shape, grad_shape[1])


@register_flop_formula(torch.ops.revcol_backbone.involution_kernel_gradient)
def _kernel_gradient_flops(grad_shape, x_shape, kernel_shape, *sizes, **kwargs) -> int:
    return 2 * multiply_adds(kernel_shape, grad_shape[1])


def _check_shapes(x: Tensor, kernel: Tensor, stride: int) -> None:
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f'involution stride={stride!r} is not allowed; give a positive integer.')
    if x.ndim != 4 or kernel.ndim != 5:
        raise ValueError(
            f'involution got an input of shape {tuple(x.shape)} and kernels of shape '
            f'{tuple(kernel.shape)}; give (B, C, H, W) and (B, G, K * K, H / stride, W / stride).'
        )
    batch, channels, height, width = x.shape
    _, groups, positions, _, _ = kernel.shape
    size = math.isqrt(positions)
    if size * size != positions or size % 2 == 0:
        raise ValueError(
            f'involution got kernels of {positions} positions; give the square of an odd number, '
            'such as 9 or 49.'
        )
    if not groups or channels % groups:
        raise ValueError(
            f'involution got kernels for {groups} groups; their number must divide the '
            f"input's {channels} channels."
        )
    expected = (batch, groups, positions, math.ceil(height / stride), math.ceil(width / stride))
    if tuple(kernel.shape) != expected:
        raise ValueError(
            f'involution got kernels of shape {tuple(kernel.shape)}; an input of shape '
            f'{tuple(x.shape)} at stride {stride} needs {expected}.'
        )

"""The collision term of IC networks: sums over windows, and what they add to a linear operation.

A unit computes ``y = u + relu(u - w' s + b1) + b2``, with u the linear operation (a convolution or
a matrix product) and s the sum of what it looks at (arXiv 2102.03495). Moving both biases halfway
saves a pass over the output: with ``v = u + (b1 + b2) / 2`` and ``floor = (b2 - b1) / 2`` it is
``y = v + max(v - w' s, floor)``. :func:`collide` computes that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from revcol_backbone.ic import tiled


def collide(
    v: Tensor, sums: Tensor, weight: Tensor, floor: Tensor, ceiling: Tensor | None = None
) -> Tensor:
    """Add the collision term: ``v + max(v - weight * sums, floor)``.

    Without gradients the result takes the place of v. For the backward pass ``sums`` and one mask
    of a byte an element are kept, not v. Derivatives of every order are there; the term has none
    where the maximum changes sides.

    Args:
        v: The linear operation with the mean of both biases (B, C, ...).
        sums: Sums of what each output sees (B, G, ...), float32 or wider; G divides C.
        weight: w' (C).
        floor: Half of the outer bias less half of the inner one (C).
        ceiling: Bounds the term from above as well (C), without gradients only.

    Returns:
        (B, C, ...) in the dtype of v; half precision is computed in float32.
    """
    bounds = (floor,) if ceiling is None else (floor, ceiling)
    is_traced = _is_traced()
    if torch.is_grad_enabled() and ceiling is None and not is_traced:
        return Collide.apply(v, sums, weight, floor)
    grouped = _by_groups(v, sums, weight, *bounds)
    if v.device.type == 'cpu' and not is_traced:
        tiled.collide_(*grouped)
        return v
    # A compiler fuses the formula, and chooses what to keep.
    return _formula(*grouped).view_as(v)


def collide_with_gain(
    v: Tensor,
    sums: Tensor,
    weight: Tensor,
    offset: Tensor,
    gain: Tensor,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Add the collision term times a gain: ``v + gain * relu(v - weight * sums + offset)``.

    With a gain of 0 the result is v, bit for bit.

    Args:
        v: The linear operation with the outer bias b2 (B, C, ...).
        sums: As in :func:`collide`.
        weight: w' (C).
        offset: The inner bias less the outer one (C).
        gain: g (C).
        bounds: The least and the largest value of the term (C), for another function than a ReLU.

    Returns:
        (B, C, ...) in the dtype of v; half precision is computed in float32.
    """
    grouped, sums, weight, offset, gain, *limits = _by_groups(
        v, sums, weight, offset, gain, *(bounds or ())
    )
    term = torch.addcmul(grouped, sums, weight, value=-1) + offset
    if limits:
        term = torch.minimum(torch.maximum(term, limits[0]), limits[1])
    else:
        term = term.relu()
    return torch.addcmul(grouped, gain, term).to(v.dtype).view_as(v)


def window_sums(
    channel_sums: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Sequence[int],
    padding_mode: str,
) -> Tensor:
    """Sum the windows of a convolution: a convolution with ones, without multiplying.

    Args:
        channel_sums: The input summed over the channels of each group (B, G, H, W).
        kernel_size, stride, dilation: Of the convolution, as (rows, columns).
        padding: What :func:`torch.nn.functional.pad` takes: left, right, top, bottom.
        padding_mode: As of ``nn.Conv2d``.

    Returns:
        (B, G, H', W'), of the output's size.
    """
    left, right, top, bottom = padding
    margins = (top, left)
    # Pooling pads by itself, but alike on both sides and by half of a window at most.
    is_pools_own = (
        padding_mode == 'zeros'
        and (left, top) == (right, bottom)
        and dilation == (1, 1)
        and all(2 * m <= k for m, k in zip(margins, kernel_size, strict=True))
    )
    if not is_pools_own:
        mode = 'constant' if padding_mode == 'zeros' else padding_mode
        channel_sums, margins = F.pad(channel_sums, tuple(padding), mode=mode), (0, 0)
    if dilation == (1, 1):
        # What is traced must do without divisor_override, which exporters to ONNX leave out.
        if _is_traced():
            means = F.avg_pool2d(channel_sums, kernel_size, stride, margins)
            return means * (kernel_size[0] * kernel_size[1])
        return F.avg_pool2d(channel_sums, kernel_size, stride, margins, divisor_override=1)
    for axis in (0, 1):
        channel_sums = _sum_along(channel_sums, axis, kernel_size, stride, dilation)
    return channel_sums


def _sum_along(
    x: Tensor,
    axis: int,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    size, step, spacing = kernel_size[axis], stride[axis], dilation[axis]
    reach = x.shape[axis - 2] - spacing * (size - 1)
    slices = []
    for position in range(size):
        first = position * spacing
        index = slice(first, first + reach, step)
        slices.append(x[..., index, :] if axis == 0 else x[..., index])
    return sum(slices[1:], slices[0])


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _formula(
    v: Tensor, sums: Tensor, weight: Tensor, floor: Tensor, ceiling: Tensor | None = None
) -> Tensor:
    term = torch.maximum(torch.addcmul(v, sums, weight, value=-1), floor)
    return (v + (term if ceiling is None else torch.minimum(term, ceiling))).to(v.dtype)


def _by_groups(v: Tensor, sums: Tensor, *parameters: Tensor) -> list[Tensor]:
    """View v as (B, G, C / G, L), the sums as (B, G, 1, L), parameters as (1, G, C / G, 1)."""
    batch, groups = sums.shape[:2]
    width = v.shape[1] // groups
    pixels = math.prod(v.shape[2:])
    return [
        v.reshape(batch, groups, width, pixels),
        sums.reshape(batch, groups, 1, pixels),
        *(parameter.view(1, groups, width, 1) for parameter in parameters),
    ]


class Collide(torch.autograd.Function):
    """What :func:`collide` does, with its derivatives."""

    @staticmethod
    def forward(ctx, v: Tensor, sums: Tensor, weight: Tensor, floor: Tensor) -> Tensor:
        grouped = _by_groups(v, sums, weight, floor)
        if v.device.type == 'cpu':
            out, is_active = tiled.collide_and_mark(*grouped)
        else:
            term = torch.addcmul(*grouped[:3], value=-1)
            is_active = term > grouped[3]
            out = torch.maximum(term, grouped[3], out=term).add_(grouped[0]).to(v.dtype)
        ctx.save_for_backward(is_active, sums, weight)
        ctx.floor_dtype = floor.dtype
        return out.view_as(v)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        is_active, sums, weight = ctx.saved_tensors
        given, seen, lines = _by_groups(grad, sums, weight)
        if grad.device.type == 'cpu' and not torch.is_grad_enabled():
            grads = tiled.gradients(given, is_active, seen, lines)
        else:
            grads = _gradients(given, is_active, seen, lines)
        grad_v, grad_sums, grad_weight, grad_floor = grads
        return (
            grad_v.view_as(grad),
            grad_sums.view_as(sums),
            grad_weight.flatten().to(weight.dtype),
            grad_floor.flatten().to(ctx.floor_dtype),
        )


def _gradients(
    grad: Tensor, is_active: Tensor, sums: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`.tiled.gradients`, by operators that can be differentiated again."""
    active = grad * is_active
    grad_v = grad + active
    active = active.to(sums.dtype)
    grad_sums = -(weight.to(sums.dtype).transpose(2, 3) @ active)
    grad_weight = -(active @ sums.transpose(2, 3)).sum(0, keepdim=True)
    at_floor = grad.sum((0, 3), True, dtype=sums.dtype) - active.sum((0, 3), True)
    return grad_v, grad_sums, grad_weight, at_floor

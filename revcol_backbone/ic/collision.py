"""The collision term of IC networks: what sums over windows add to a linear operation.

A unit computes ``y = u + relu(u - w' s + b1) + b2``, with u the linear operation (a convolution or
a matrix product) and s the sum of what it looks at (arXiv 2102.03495). With ``v = u + b2`` and
``offset = b1 - b2`` it is ``y = v + relu(v - w' s + offset)``. :func:`collide` computes that.
"""

from __future__ import annotations

import math
from typing import TypeVarTuple, Unpack, cast

import torch
from torch import Tensor

from revcol_backbone.ic import tiled
from revcol_backbone.ic.windows import is_traced

# The least and the largest value of the term (C), for another function than a ReLU.
Bounds = tuple[Tensor, Tensor]
Parameters = TypeVarTuple('Parameters')  # tensors, or None where there is none


def collide(
    v: Tensor,
    sums: Tensor,
    weight: Tensor,
    offset: Tensor | None,
    gain: Tensor | None = None,
    bounds: Bounds | None = None,
) -> Tensor:
    """Add the collision term: ``v + gain * relu(v - weight * sums + offset)``.

    Without a gain the result takes the place of v, and for the backward pass ``sums`` and one mask
    of a byte an element are kept. With a gain of 0 the result is v, bit for bit. Derivatives of
    every order are there; the term has none where the ReLU changes sides.

    Args:
        v: The linear operation with the outer bias b2 (B, C, ...), not a view.
        sums: Sums of what each output sees (B, G, ...), float32 or wider; G divides C.
        weight: w' (C).
        offset: The inner bias less the outer one (C), or ``None`` for 0, without gradients only.
        gain: g (C). Default 1.
        bounds: Bounds of the term in place of the ReLU's, without gradients only.

    Returns:
        (B, C, ...) in the dtype of v; half precision is computed in float32.
    """
    if torch.is_grad_enabled() and gain is None and not is_traced():
        return Collide.apply(v, sums, weight, offset)
    lowest, highest = bounds or (None, None)
    grouped = _by_groups(v, sums, weight, offset, gain, lowest, highest)
    if torch.is_grad_enabled() or is_traced() or v.device.type != 'cpu':
        # A compiler fuses the formula, and chooses what to keep.
        return _ungrouped(_formula(*grouped), v)
    tiled.collide_(*grouped)
    return v


def _formula(
    v: Tensor,
    sums: Tensor,
    weight: Tensor,
    offset: Tensor | None,
    gain: Tensor | None,
    lowest: Tensor | None,
    highest: Tensor | None,
) -> Tensor:
    term = torch.addcmul(v, sums, weight, value=-1)
    if offset is not None:
        term = term + offset
    if lowest is None or highest is None:
        term = term.relu()
    else:
        term = torch.minimum(torch.maximum(term, lowest), highest)
    out = v + term if gain is None else torch.addcmul(v, gain, term)
    return out.to(v.dtype)


class Collide(torch.autograd.Function):
    """What :func:`collide` does without a gain, in place, with its derivatives."""

    @staticmethod
    def forward(ctx, v: Tensor, sums: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
        grouped = _by_groups(v, sums, weight, offset)
        if v.device.type == 'cpu':
            is_active = tiled.collide_and_mark_(*grouped)
        else:
            term = torch.addcmul(*grouped[:3], value=-1).add_(grouped[3])
            is_active = term > 0
            grouped[0].add_(term.relu_())
        ctx.save_for_backward(is_active, sums, weight)
        ctx.offset_dtype = offset.dtype
        ctx.mark_dirty(v)
        return v

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        is_active, sums, weight = ctx.saved_tensors
        given, seen, lines = _by_groups(grad, sums, weight)
        if grad.device.type == 'cpu' and not torch.is_grad_enabled():
            grads = tiled.gradients(given, is_active, seen, lines)
        else:
            grads = _gradients(given, is_active, seen, lines)
        grad_v, grad_sums, grad_weight, grad_offset = grads
        return (
            _ungrouped(grad_v, grad),
            _ungrouped(grad_sums, sums),
            grad_weight.flatten().to(weight.dtype),
            grad_offset.flatten().to(ctx.offset_dtype),
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
    return grad_v, grad_sums, grad_weight, active.sum((0, 3), True)


def _by_groups(
    v: Tensor, sums: Tensor, *parameters: Unpack[Parameters]
) -> tuple[Tensor, Tensor, Unpack[Parameters]]:
    """View v as (B, G, C / G, L), the sums as (B, G, 1, L), parameters as (1, G, C / G, 1).

    Of a matrix (B, C) all rows are taken for the positions of one image.
    """
    if v.ndim == 2:
        v, sums = v.t().unsqueeze(0), sums.t().unsqueeze(0)
    batch, groups = sums.shape[:2]
    width = v.shape[1] // groups
    pixels = math.prod(v.shape[2:])
    viewed = (
        None if each is None else cast(Tensor, each).view(1, groups, width, 1)
        for each in parameters
    )
    return (
        v.reshape(batch, groups, width, pixels),
        sums.reshape(batch, groups, 1, pixels),
        *cast(tuple[Unpack[Parameters]], tuple(viewed)),
    )


def _ungrouped(grouped: Tensor, like: Tensor) -> Tensor:
    """Undo the view of :func:`_by_groups`."""
    return grouped[0, 0].t() if like.ndim == 2 else grouped.view_as(like)

"""The collision term of a folded unit as a leaky ReLU, which oneDNN applies inside a convolution.

With z = u - w' s + b1, which is a convolution by W - w', u + relu(z) is max(2 z, z) + w' s - b1,
and the maximum is a leaky ReLU of 2 z. Beside the convolution this takes one pass over its output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from revcol_backbone.onednn import fusable_dtype, made_of

# How large w' s may be beside u, by their expected sizes, to be subtracted in the weights and added
# again without losing more than a digit.
LARGEST_SHARE = 8.0


@dataclass(frozen=True)
class LeakyForm:
    """A unit and its batch norm with the scale a, in other parameters.

    Args:
        weight, bias: Of the convolution that gives 2 |a| z.
        sign: That of a (C, 1, 1), or ``None`` where no a is negative.
        lines: a w' and a (b2 - b1) side by side, (C, 2).
    """

    weight: Tensor
    bias: Tensor
    sign: Tensor | None
    lines: Tensor


def collide_in_convolution(
    x: Tensor,
    sums: Tensor,
    conv: nn.Conv2d,
    collision_weight: Tensor,
    floor: Tensor,
    ceiling: Tensor,
) -> Tensor | None:
    """Apply a folded unit without a gain.

    Args:
        x: The input (B, in_channels, H, W).
        sums: Sums of windows (B, G, H', W').
        conv: The convolution by a W, with a (b1 + b2) / 2 as its bias.
        collision_weight: a w' (C).
        floor, ceiling: a (b2 - b1) / 2 in the one that bounds the term of a channel, which is the
            floor where a is positive; infinite in the other one (C).

    Returns:
        (B, C, H', W'), or ``None`` where this form cannot be used or would lose digits.
    """
    is_padded_by_itself = conv.padding_mode == 'zeros' and not isinstance(conv.padding, str)
    if not is_padded_by_itself or torch.compiler.is_compiling():
        return None
    if fusable_dtype(x) is not torch.float32 or conv.weight.dtype is not torch.float32:
        return None
    bias = cast(Tensor, conv.bias)
    weights = (conv.weight, bias, collision_weight, floor, ceiling)
    form = made_of('leaky form', _leaky_form, *weights)
    if form is None:
        return None
    sizes = (conv.padding, conv.stride, conv.dilation, conv.groups)
    y = torch.ops.mkldnn._convolution_pointwise(
        x, form.weight, form.bias, *sizes, 'leaky_relu', [0.5], ''
    )
    if form.sign is not None:
        y.mul_(form.sign)
    return _add_sums(y, sums, form.lines)


def _leaky_form(
    weight: Tensor, bias: Tensor, collision_weight: Tensor, floor: Tensor, ceiling: Tensor
) -> LeakyForm | None:
    weight, bias, collision_weight = weight.double(), bias.double(), collision_weight.double()
    spread = weight.flatten(1).square().mean(1).sqrt()
    share = collision_weight.abs() * math.sqrt(weight[0].numel())
    if not (share <= LARGEST_SHARE * spread).all():
        return None
    is_negative = floor.isinf()
    sign = torch.ones_like(bias).where(~is_negative, -1.0)
    turn = floor.where(~is_negative, ceiling).double()
    lines = torch.stack([collision_weight, 2 * turn], 1)
    in_shape = (-1, 1, 1, 1)
    return LeakyForm(
        (2 * sign.view(in_shape) * (weight - collision_weight.view(in_shape))).float(),
        (2 * sign * (bias - turn)).float(),
        sign.view(-1, 1, 1).float() if is_negative.any() else None,
        lines.float(),
    )


def _add_sums(y: Tensor, sums: Tensor, lines: Tensor) -> Tensor:
    """Add sums times the first of the lines, and the second, in one pass: as a matrix product."""
    batch, groups = sums.shape[:2]
    seen = torch.stack([sums, torch.ones_like(sums)], 2).view(batch * groups, 2, -1)
    rows = y.permute(0, 2, 3, 1)
    if groups == 1 and rows.is_contiguous():
        by_rows = seen.transpose(1, 2), lines.t().expand(batch, -1, -1)
        rows.flatten(1, 2).baddbmm_(*by_rows)
        return y
    y = y.contiguous()
    lines = lines.view(1, groups, -1, 2).expand(batch, -1, -1, -1).flatten(0, 1)
    y.view(batch * groups, lines.shape[1], -1).baddbmm_(lines, seen)
    return y

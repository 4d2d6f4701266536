"""Folding batch norms into the units before them, for inference."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from revcol_backbone.ic.collision import collide
from revcol_backbone.ic.conv import ICConv2d, sizes_of
from revcol_backbone.ic.leaky import collide_in_convolution
from revcol_backbone.ic.windows import sum_channels, sum_windows


class FoldedICConv2d(nn.Module):
    """An :class:`ICConv2d` with the batch norm after it in its weights, for inference.

    The norm's scale a goes into the weights, w' and b1. Times a, a ReLU of z is the larger of ``a
    z`` and 0 where a is positive, and the smaller one where it is negative: so the collision term
    is bounded from below or from above.

    Args:
        unit: A trained unit.
        norm: The batch norm after it, with stored statistics.
    """

    collision_weight: Tensor
    offset: Tensor | None
    floor: Tensor
    ceiling: Tensor
    collision_gain: Tensor | None

    def __init__(self, unit: ICConv2d, norm: _BatchNorm) -> None:
        super().__init__()
        # Products of weights are rounded once, from float64.
        scale, shift = _affine(norm)
        outer = shift if unit.bias is None else scale * unit.bias.double() + shift
        inner = scale * unit.collision_bias.double()
        if unit.collision_gain is None:
            # Halfway between both biases, the term needs none of its own, but other bounds.
            bias, turn, offset = (outer + inner) / 2, (outer - inner) / 2, None
        else:
            bias, turn, offset = outer, torch.zeros_like(outer), inner - outer
        is_negative = scale < 0

        self.conv = nn.Conv2d(**sizes_of(unit), device='meta')
        dtype = unit.weight.dtype
        weight = scale.view(-1, 1, 1, 1) * unit.weight.double()
        self.conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
        buffers: dict[str, Tensor | None] = {
            'collision_weight': scale * unit.collision_weight.double(),
            'offset': offset,
            'floor': turn.where(~is_negative, -torch.inf),
            'ceiling': turn.where(is_negative, torch.inf),
            'collision_gain': unit.collision_gain,
        }
        for name, value in buffers.items():
            self.register_buffer(name, None if value is None else value.detach().to(dtype))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W'), without gradients."""
        sums = sum_windows(sum_channels(x, self.conv.groups), self.conv)
        if self.collision_gain is None:
            parameters = (self.conv, self.collision_weight, self.floor, self.ceiling)
            y = collide_in_convolution(x, sums, *parameters)
            if y is not None:
                return y
        bounds = (self.floor, self.ceiling)
        return collide(
            self.conv(x), sums, self.collision_weight, self.offset, self.collision_gain, bounds
        )


@torch.no_grad()
def fold_batch_norms(model: nn.Module) -> int:
    """Fold every batch norm that follows an :class:`ICConv2d` among a module's children, in place.

    As :func:`fuse_convolutions`, which is for ordinary convolutions: there a batch norm would be
    folded into the weights alone. Fold the units first.

    Args:
        model: A model in evaluation mode; its units and their norms must be used in the order in
            which they were registered, as in ``ConvModule`` and in the blocks of a ResNet.

    Returns:
        How many were folded.
    """
    folded = 0
    last: str | None = None  # the name of the unit before
    for name, child in list(model.named_children()):
        if isinstance(child, _BatchNorm):
            if last is not None and child.running_mean is not None:
                setattr(
                    model, last, FoldedICConv2d(cast(ICConv2d, model.get_submodule(last)), child)
                )
                setattr(model, name, nn.Identity())
                folded += 1
            last = None
        elif isinstance(child, nn.Conv2d):
            last = name if isinstance(child, ICConv2d) else None
        else:
            folded += fold_batch_norms(child)
    return folded


@torch.no_grad()
def fuse_convolutions(model: nn.Module) -> None:
    """Fold every batch norm that follows an ordinary convolution into it, in place.

    Args:
        model: As for :func:`fold_batch_norms`, called before.
    """
    last: tuple[str, nn.Conv2d] | None = None
    for name, child in list(model.named_children()):
        if isinstance(child, _BatchNorm):
            if last is not None and child.running_mean is not None:
                setattr(model, last[0], fuse_conv_bn_eval(last[1], child))
                setattr(model, name, nn.Identity())
            last = None
        elif isinstance(child, nn.Conv2d):
            last = name, child
        else:
            fuse_convolutions(child)


def _affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The scale and the shift of a batch norm in evaluation mode, in float64."""
    mean = norm.get_buffer('running_mean').double()
    scale = (norm.get_buffer('running_var').double() + norm.eps).rsqrt()
    if not norm.affine:
        return scale, -mean * scale
    scale = scale * norm.weight.double()
    return scale, norm.bias.double() - mean * scale

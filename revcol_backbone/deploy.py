"""Columns for inference alone: folded weights, fused layers, no parts that only training needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, library, nn

from revcol_backbone.column import Column, Features
from revcol_backbone.level import EPSILON, Block, Level
from revcol_backbone.onednn import fusable_dtype, made_of
from revcol_backbone.shortcut import bounded_alpha


class DeployedColumn(nn.Module):
    """A column with folded levels, and with every ``alpha`` bounded once and for all.

    Args:
        column: A trained column, which must not be used afterwards: its parts become parts of
            this one.
        is_first_column: The first column has no shortcut, and therefore no ``alpha`` here.
    """

    def __init__(self, column: Column, is_first_column: bool) -> None:
        super().__init__()
        self.num_levels = column.num_levels
        for index, (level, alpha) in enumerate(zip(column.levels, column.alphas, strict=True)):
            if not is_first_column:
                self.register_buffer(f'alpha{index}', bounded_alpha(alpha.detach()))
            self.add_module(f'level{index}', fold(level).requires_grad_(False))

    def forward(
        self,
        stem: Tensor,
        previous: Features | None = None,
        keep: None = None,
        count: int | None = None,
        constants: Sequence[object] = (),
    ) -> Features:
        """Run the column; arguments and result as in :class:`~revcol_backbone.column.Column`."""
        below, outputs = stem, []
        for index in range(self.num_levels if count is None else count):
            level = getattr(self, f'level{index}')
            if previous is None:
                below = level(below, (), None, *constants)
            else:
                above = previous[index + 1 :]
                shortcut = (getattr(self, f'alpha{index}'), previous[index])
                if getattr(level, 'takes_shortcut', False):
                    below = level(below, above, None, *constants, shortcut=shortcut)
                else:
                    below = torch.addcmul(level(below, above, None, *constants), *shortcut)
            outputs.append(below)
        return tuple(outputs)


@singledispatch
def fold(module: nn.Module) -> nn.Module:
    """Fold a trained level or block for inference.

    ``@fold.register`` adds a kind: a function from the trained module, whose parts it may take, to
    the one that replaces it. Of other kinds the method ``switch_to_deploy`` is called, or they stay
    as they are.
    """
    fold_itself = getattr(module, 'switch_to_deploy', None)
    if callable(fold_itself):
        fold_itself()
    return module


@fold.register
def _(level: Level) -> nn.Module:
    level.blocks = nn.ModuleList(fold(block) for block in level.blocks)
    return level


@fold.register
def _(block: Block) -> nn.Module:
    return DeployedBlock(block)


class DeployedBlock(nn.Module):
    """A block whose linear layers hold LayerNorm's affine part and the layer scale.

    Args:
        block: A trained block.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.dwconv = block.dwconv
        # Both products of weights are rounded once, from float64.
        first, second = block.pwconv1, block.pwconv2
        dtype = first.weight.dtype
        weight, scale = first.weight.double(), block.norm.weight.double()
        shift = weight @ block.norm.bias.double()
        self.pwconv1 = PackedLinear(
            (weight * scale).to(dtype), (first.bias.double() + shift).to(dtype)
        )
        gamma = block.gamma.double()
        self.pwconv2 = PackedLinear(
            (gamma[:, None] * second.weight.double()).to(dtype),
            (gamma * second.bias.double()).to(dtype),
        )

    def forward(self, x: Tensor, keep: None = None) -> Tensor:
        """Apply the block to features of shape (B, C, H, W); nothing is ever dropped."""
        branch = self.dwconv(x).permute(0, 2, 3, 1)
        branch = F.layer_norm(branch, branch.shape[-1:], eps=EPSILON)
        x = self.pwconv2.add(self.pwconv1.gelu(branch), x.permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2)


class PackedLinear(nn.Linear):
    """A linear layer for inference, for use before a GELU or before an addition.

    On x86 CPUs oneDNN applies the GELU, or adds the residual, while the matrix product's results
    are still in registers, and reads the weight from a layout of its own. That packed copy is made
    at the first use in each dtype, costs the weight's memory once more, and is made again when
    the weight changes in any way but through memory that was shared outside of PyTorch (by
    ``numpy()``) before that first use.
    Elsewhere (other devices, gradients wanted, exporting, tracing) the operations follow one
    another as usual.

    Args:
        weight: (out, in); not trained any more.
        bias: (out,).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0], device='meta')
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def gelu(self, x: Tensor) -> Tensor:
        """GELU(W x + b) for x of shape (..., in)."""
        dtype = fusable_dtype(x)
        if dtype is None:
            return F.gelu(self(x))
        run = (
            torch.ops.revcol_backbone.linear_gelu if torch.compiler.is_compiling() else _linear_gelu
        )
        return run(x.to(dtype), self.weight, self.bias.to(dtype))

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + W x + b for x of shape (..., in) and a residual of shape (..., out)."""
        dtype = fusable_dtype(x)
        # Under autocast the residual may be float32.
        if dtype is None or residual.dtype != dtype:
            return residual + self(x)
        run = torch.ops.revcol_backbone.linear_add if torch.compiler.is_compiling() else _linear_add
        return run(x.to(dtype), residual, self.weight, self.bias.to(dtype))


def _linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    packed = _pack(weight, x.dtype)
    if packed is None:
        return F.gelu(F.linear(x, weight.to(x.dtype), bias))
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, 'gelu', [], 'none')


def _linear_add(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    packed = _pack(weight, x.dtype)
    if packed is None:
        return residual + F.linear(x, weight.to(x.dtype), bias)
    return torch.ops.mkldnn._linear_pointwise.binary(x, residual, packed, bias, 'add')


# To a compiler both are one step each, which it cannot take apart again.
library.custom_op('revcol_backbone::linear_gelu', _linear_gelu, mutates_args=())
library.custom_op('revcol_backbone::linear_add', _linear_add, mutates_args=())


@library.register_fake('revcol_backbone::linear_gelu')
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], len(weight)))


@library.register_fake('revcol_backbone::linear_add')
def _(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], len(weight)))


def _pack(weight: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The weight in oneDNN's layout; None if it cannot be kept."""

    def reorder(weight: Tensor) -> Tensor:
        return torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype))

    return made_of(('packed', dtype), reorder, weight)

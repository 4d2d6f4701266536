"""Columns for inference alone: folded weights, no parts that only training needs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.block import Block
from revcol_backbone.column import Column, Features, bounded_alpha
from revcol_backbone.normalization import EPSILON
from revcol_backbone.packed_linear import PackedLinear
from revcol_backbone.variants import LEVELS


class DeployedColumn(nn.Module):
    """A column with folded blocks, and with every ``alpha`` bounded once and for all.

    The first column, which has no shortcut, has no ``alpha`` at all.

    Args:
        column: A trained column, which must not be used afterwards: its parts become parts of
            this one.
    """

    def __init__(self, column: Column) -> None:
        super().__init__()
        for index, (level, alpha) in enumerate(zip(column.levels, column.alphas, strict=True)):
            if not column.is_first_column:
                self.register_buffer(f'alpha{index}', bounded_alpha(alpha.detach()))
            level.blocks = nn.ModuleList(DeployedBlock(block) for block in level.blocks)
            self.add_module(f'level{index}', level.requires_grad_(False))

    def forward(self, stem: Tensor, previous: Features | None = None) -> Features:
        """Run the column; arguments and result as of :class:`~revcol_backbone.column.Column`."""
        below, outputs = stem, []
        for index in range(LEVELS):
            level = getattr(self, f'level{index}')
            below = level(below, *level.sources(previous))
            if previous is not None:
                below = torch.addcmul(below, getattr(self, f'alpha{index}'), previous[index])
            outputs.append(below)
        return tuple(outputs)


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

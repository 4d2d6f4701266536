"""F of RevCol's levels: the fusion of what is below and above, and a chain of blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.block.block_function import KnownOutput, apply_block
from revcol_backbone.variants import Architecture

EPSILON = 1e-6
EXPANSION = 4
LAYER_SCALE_INIT = 1e-6


class Level(nn.Module):
    """F[l,i] of RevCol: the fusion of what is below and above, and a chain of blocks.

    Args:
        architecture: The network's widths and depths.
        index: Index of the level, 0 to 3.
        is_first_column: The first column has no column before it, hence no ``up`` branches.
        make_block: Makes one block from the width.
    """

    def __init__(
        self,
        architecture: Architecture,
        index: int,
        is_first_column: bool,
        make_block: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.fusion = Fusion(architecture, index, is_first_column)
        self.blocks = nn.ModuleList(
            make_block(architecture.channels[index]) for _ in range(architecture.layers[index])
        )

    def forward(
        self,
        below: Tensor,
        above: Sequence[Tensor] = (),
        keep: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Fuse and run the blocks; arguments as for :class:`Fusion` and :class:`Block`."""
        x = self.fusion(below, above)
        for index, block in enumerate(self.blocks):
            x = block(x, keep[index] if keep else None)
        return x

    @property
    def chain(self) -> list[Block]:
        """The blocks that follow one another to the output and can be told what they will find.

        Where a level or a block does more than this class, they are those after it, or none.
        """
        chain: list[Block] = []
        if type(self).forward is Level.forward and 'forward' not in vars(self):
            for block in reversed(self.blocks):
                is_own = isinstance(block, Block) and type(block).forward is Block.forward
                if not is_own or 'forward' in vars(block) or list(self.blocks).count(block) > 1:
                    break
                chain.insert(0, cast(Block, block))
        return chain

    def run_chain(
        self,
        below: Tensor,
        above: Sequence[Tensor] = (),
        keep: Sequence[Tensor | None] | None = None,
    ) -> list[Tensor]:
        """Do as :meth:`forward`; return the outputs of the blocks of :attr:`chain`."""
        outputs = [self.fusion(below, above)]
        for index, block in enumerate(self.blocks):
            outputs.append(block(outputs[-1], keep[index] if keep else None))
        return outputs[len(outputs) - len(self.chain) :]


class Fusion(nn.Module):
    """Sum of the ``down`` branch and, past the first column, the ``up`` branches (figure 2c).

    Args:
        architecture: Widths of all levels, and whether there is a long ``up2`` branch.
        level: Index of the level that is entered, 0 to 3.
        is_first_column: The first column has no column before it, hence no ``up`` branches.
    """

    def __init__(self, architecture: Architecture, level: int, is_first_column: bool) -> None:
        super().__init__()
        channels = architecture.channels
        top = len(channels) - 1
        if level > 0:
            self.down = nn.Sequential(
                nn.Conv2d(channels[level - 1], channels[level], kernel_size=2, stride=2),
                ChannelsFirstLayerNorm(channels[level]),
            )
        if not is_first_column and level < top:
            self.up = UpBranch(channels[level + 1], channels[level])
        if not is_first_column and level == 0 and architecture.long_up:
            self.up2 = UpBranch(channels[top], channels[level])

    def forward(self, below: Tensor, above: Sequence[Tensor] = ()) -> Tensor:
        """Fuse.

        Args:
            below: The level below in the same column, (B, C[l-1], 2H, 2W) or one more in height
                or width; at level 0 the stem's output, (B, C[0], H, W).
            above: The levels above in the column before: the next one is taken by ``up``, the
                last one by ``up2``.

        Returns:
            Features of shape (B, C[l], H, W).
        """
        fused = self.down(below) if hasattr(self, 'down') else below
        size = fused.shape[-2:]
        if hasattr(self, 'up'):
            fused = fused + self.up(above[0], size)
        if hasattr(self, 'up2'):
            fused = fused + self.up2(above[-1], size)
        return fused


class UpBranch(nn.Module):
    """Linear and LayerNorm over channels, then nearest-neighbor upsampling to a given size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.channel_reschedule = nn.Sequential(
            nn.Linear(in_channels, out_channels), nn.LayerNorm(out_channels, eps=EPSILON)
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring x of shape (B, in, h, w) to (B, out, *size)."""
        x = self.channel_reschedule(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.interpolate(x, size=size, mode='nearest')


class Block(nn.Module):
    """Depthwise convolution and a two-layer perceptron on a residual branch (figure 2c).

    Args:
        channels: Width C of the input and of the output.
        kernel_size: Odd size of the depthwise kernel; the padding keeps height and width.
        expansion: Width of the perceptron's hidden layer over C. Default 4.

    Attributes:
        known: Set on a copy of the block, to compute no more of it than is not known.
    """

    known: KnownOutput | None = None

    def __init__(self, channels: int, kernel_size: int, expansion: int = EXPANSION) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(
            channels, channels, kernel_size, padding=(kernel_size - 1) // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.pwconv1 = nn.Linear(channels, expansion * channels)
        self.pwconv2 = nn.Linear(expansion * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE_INIT))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Apply the block to features (B, C, H, W).

        ``keep`` holds drop path factors of shape (B,), 0 for a dropped sample and 1 / (1 - rate)
        for a kept one; ``None`` keeps all.
        """
        return apply_block(self, x, keep)


class ChannelsFirstLayerNorm(nn.LayerNorm):
    """LayerNorm over dimension 1 of a (B, C, H, W) tensor, at every position by itself.

    The normalized dimension is moved last, so that PyTorch's fused kernel does the work, and
    back; on a ``channels_last`` input both moves are views.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)

"""The fusion at the entrance of a level: what comes from below, and what from above."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.normalization import EPSILON, ChannelsFirstLayerNorm
from revcol_backbone.variants import LEVELS, Architecture


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
        top = LEVELS - 1
        if level > 0:
            self.down = nn.Sequential(
                nn.Conv2d(channels[level - 1], channels[level], kernel_size=2, stride=2),
                ChannelsFirstLayerNorm(channels[level]),
            )
        if not is_first_column and level < top:
            self.up = UpBranch(channels[level + 1], channels[level])
        if not is_first_column and level == 0 and architecture.long_up:
            self.up2 = UpBranch(channels[top], channels[level])

    def forward(
        self, below: Tensor, above: Tensor | None = None, top: Tensor | None = None
    ) -> Tensor:
        """Fuse.

        Args:
            below: The level below in the same column, (B, C[l-1], 2H, 2W) or one more in height
                or width; at level 0 the stem's output, (B, C[0], H, W).
            above: The level above in the column before, taken by ``up``.
            top: Level 3 of the column before, taken by ``up2``.

        Returns:
            Features of shape (B, C[l], H, W).
        """
        fused = self.down(below) if hasattr(self, 'down') else below
        size = fused.shape[-2:]
        if hasattr(self, 'up'):
            fused = fused + self.up(above, size)
        if hasattr(self, 'up2'):
            fused = fused + self.up2(top, size)
        return fused


class UpBranch(nn.Module):
    """Linear and LayerNorm over channels, then nearest-neighbour upsampling to a given size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.channel_reschedule = nn.Sequential(
            nn.Linear(in_channels, out_channels), nn.LayerNorm(out_channels, eps=EPSILON)
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.channel_reschedule(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.interpolate(x, size=size, mode='nearest')

"""The fusion of columns that keep one resolution and one width, over sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class TokenFusion(nn.Module):
    """Sum of the level below and, past the first column, the next level of the column before.

    Each goes through a linear layer and LayerNorm of its own; what is below level 0, the stem's
    output, stays as it is.

    Args:
        width: Width C of all levels.
        index: Index of the level that is entered.
        levels: Number of levels of a column.
        is_first_column: The first column has no column before it.
    """

    def __init__(self, width: int, index: int, levels: int, is_first_column: bool) -> None:
        super().__init__()
        has_up = not is_first_column and index < levels - 1
        self.down = _branch(width) if index > 0 else nn.Identity()
        self.up = _branch(width) if has_up else None

    def forward(self, below: Tensor, above: Sequence[Tensor] = ()) -> Tensor:
        """Fuse sequences of shape (B, N, C); of ``above`` the first one is taken."""
        fused = self.down(below)
        return fused if self.up is None else fused + self.up(above[0])


def _branch(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))

"""One column of RevCol: four levels, each with a scaled shortcut from the column before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from revcol_backbone.block import Block
from revcol_backbone.fusion import Fusion
from revcol_backbone.variants import LEVELS, Architecture

ALPHA_INIT = 0.5
ALPHA_MIN = 1e-3

Features = tuple[Tensor, Tensor, Tensor, Tensor]


class Column(nn.Module):
    """One column (paper, equation 4):  c[l,i] = F[l,i](c[l-1,i], c[l+1,i-1]) + alpha * c[l,i-1].

    Args:
        architecture: The network's widths and depths.
        kernel_size: Depthwise kernel size of the blocks.
        drop_path_rates: One rate for each block, in the order of the levels.
        is_first_column: The first column has neither ``up`` branches nor a shortcut. Its
            ``alpha`` parameters exist, because the published files hold them, and have a
            gradient of zero.
    """

    def __init__(
        self,
        architecture: Architecture,
        kernel_size: int,
        drop_path_rates: Sequence[float],
        is_first_column: bool,
    ) -> None:
        super().__init__()
        self.is_first_column = is_first_column
        self.drop_path_rates = tuple(drop_path_rates)
        for index, channels in enumerate(architecture.channels):
            alpha = nn.Parameter(torch.full((1, channels, 1, 1), ALPHA_INIT))
            self.register_parameter(f'alpha{index}', alpha)
            self.add_module(
                f'level{index}', Level(architecture, index, kernel_size, is_first_column)
            )

    @property
    def levels(self) -> tuple[Level, Level, Level, Level]:
        """The four levels, stride 4 first."""
        return tuple(getattr(self, f'level{index}') for index in range(LEVELS))

    @property
    def alphas(self) -> Features:
        """The four shortcut parameters, each of shape (1, C, 1, 1)."""
        return tuple(getattr(self, f'alpha{index}') for index in range(LEVELS))

    def forward(
        self,
        stem: Tensor,
        previous: Features | None = None,
        keep: Sequence[Sequence[Tensor | None]] | None = None,
    ) -> Features:
        """Run the column.

        Args:
            stem: The stem's output, (B, C[0], H / 4, W / 4).
            previous: The four levels of the column before; ``None`` for the first column.
            keep: Drop path factors from :meth:`draw_drop_path`; ``None`` drops nothing.

        Returns:
            The four levels of this column.
        """
        below, outputs = stem, []
        for index, (level, alpha) in enumerate(zip(self.levels, self.alphas, strict=True)):
            level_keep = keep[index] if keep else None
            below = level(below, *level.sources(previous), keep=level_keep)
            if previous is not None:
                below = below + bounded_alpha(alpha) * previous[index]
            elif torch.is_grad_enabled() and alpha.requires_grad:
                # Data-parallel training wants every parameter in the graph.
                below = below + 0 * alpha
            outputs.append(below)
        return tuple(outputs)

    def draw_drop_path(self, x: Tensor) -> list[list[Tensor | None]] | None:
        """Draw which samples of the batch ``x`` skip which blocks; ``None`` if nothing drops.

        The factors are drawn ahead of the column so that it is a function of its inputs alone
        and can be computed again, with the same factors, in the backward pass.
        """
        if not self.training or not any(self.drop_path_rates):
            return None
        rates = iter(self.drop_path_rates)
        return [
            [_draw_keep(len(x), next(rates), self.alpha0) for _ in level.blocks]
            for level in self.levels
        ]


class Level(nn.Module):
    """F[l,i] of the paper: the fusion and a chain of blocks."""

    def __init__(
        self, architecture: Architecture, index: int, kernel_size: int, is_first_column: bool
    ) -> None:
        super().__init__()
        self.index = index
        self.fusion = Fusion(architecture, index, is_first_column)
        self.blocks = nn.ModuleList(
            Block(architecture.channels[index], kernel_size)
            for _ in range(architecture.layers[index])
        )

        self._parameter_names = tuple(name for name, _ in self.named_parameters())

    def parameter_names(self) -> tuple[str, ...]:
        """Names of this level's parameters, also where FSDP has taken them off the module."""
        return tuple(name for name, _ in self.named_parameters()) or self._parameter_names

    def sources(self, previous: Sequence[Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
        """What the ``up`` and ``up2`` branches of this level take from the column before."""
        above = previous[self.index + 1] if hasattr(self.fusion, 'up') else None
        top = previous[LEVELS - 1] if hasattr(self.fusion, 'up2') else None
        return above, top

    def forward(
        self,
        below: Tensor,
        above: Tensor | None = None,
        top: Tensor | None = None,
        keep: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        x = self.fusion(below, above, top)
        for index, block in enumerate(self.blocks):
            x = block(x, keep[index] if keep else None)
        return x


def bounded_alpha(alpha: Tensor) -> Tensor:
    """The shortcut factor that is used: ``alpha``, kept at least 1e-3 away from 0.

    The sign stays, and 0 counts as positive, so that the inverse can always divide. The
    parameter is never written; its gradient passes unchanged, so that it can leave the zone.
    """
    fixed = alpha.detach()
    bounded = torch.where(fixed < 0, fixed.clamp(max=-ALPHA_MIN), fixed.clamp(min=ALPHA_MIN))
    return alpha + (bounded - fixed)


def _draw_keep(batch: int, rate: float, like: Tensor) -> Tensor | None:
    if rate == 0:
        return None
    kept = torch.empty(batch, device=like.device, dtype=like.dtype).bernoulli_(1 - rate)
    return kept / (1 - rate)

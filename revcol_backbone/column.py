"""A column: levels that each add a scaled shortcut from the column before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from revcol_backbone.shortcut import ALPHA_INIT, add_shortcut, leave_out_shortcut

Features = tuple[Tensor, ...]
Keep = Sequence[Sequence[Tensor | None]] | None


class Column(nn.Module):
    """One column (paper, equation 4):  c[l,i] = F[l,i](c[l-1,i], c[l+1,i-1]) + alpha * c[l,i-1].

    Args:
        levels: F of each level, the lowest first: modules that are called with the level below
            (the stem's output at level 0), the tuple of all levels above in the column before
            (empty in the first column), the level's drop path factors or ``None``, and the
            constants of the walk. Each gives one tensor, of one shape in all columns.
        alpha_shapes: Shape of each level's shortcut parameter ``alpha``, which is multiplied with
            that level: (1, C, 1, 1) gives each channel of a feature map (B, C, H, W) its own, (C,)
            each channel of tokens (B, N, C).
        drop_path_rates: For each level the rates for which :meth:`draw_drop_path` draws factors;
            ``None`` for none at all.

    Raises:
        ValueError: The three are not of one length.
    """

    def __init__(
        self,
        levels: Sequence[nn.Module],
        alpha_shapes: Sequence[tuple[int, ...]],
        drop_path_rates: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        lengths = [len(levels), len(alpha_shapes), len(drop_path_rates or levels)]
        if len(set(lengths)) > 1:
            raise ValueError(
                'a column was given {} levels, {} alpha_shapes and {} drop_path_rates; give one of '
                'each for every level.'.format(*lengths)
            )
        for index, (level, shape) in enumerate(zip(levels, alpha_shapes, strict=True)):
            alpha = nn.Parameter(torch.full(shape, ALPHA_INIT))
            self.register_parameter(f'alpha{index}', alpha)
            self.add_module(f'level{index}', level)
        self.num_levels = len(levels)
        self.drop_path_rates = tuple(tuple(rates) for rates in drop_path_rates or ())

    @property
    def levels(self) -> tuple[nn.Module, ...]:
        """The levels, the lowest first."""
        return tuple(getattr(self, f'level{index}') for index in range(self.num_levels))

    @property
    def alphas(self) -> Features:
        """Their shortcut parameters; the first column has them without using them."""
        return tuple(getattr(self, f'alpha{index}') for index in range(self.num_levels))

    def forward(
        self,
        stem: Tensor,
        previous: Features | None = None,
        keep: Keep = None,
        count: int | None = None,
        constants: Sequence[object] = (),
        compute: Callable[[Tensor, Features | None], Features] | None = None,
    ) -> Features:
        """Run the column.

        Args:
            stem: The stem's output, which is below level 0.
            previous: The levels of the column before; ``None`` for the first column.
            keep: Drop path factors from :meth:`draw_drop_path`; ``None`` drops nothing.
            count: How many levels to compute, from the lowest; ``None`` for all.
            constants: Further arguments of every level, such as masks.
            compute: Computes the levels in place of this method, from ``stem`` and ``previous``,
                so that hooks on the column surround a computation that saves memory.

        Returns:
            The levels of this column.
        """
        if compute is not None:
            return compute(stem, previous)
        below, outputs = stem, []
        pairs = list(zip(self.levels, self.alphas, strict=True))[:count]
        for index, (level, alpha) in enumerate(pairs):
            above = () if previous is None else previous[index + 1 :]
            below = level(below, above, keep[index] if keep else None, *constants)
            if previous is not None:
                below = add_shortcut(below, alpha, previous[index])
            else:
                below = leave_out_shortcut(below, alpha)
            outputs.append(below)
        return tuple(outputs)

    def remove_levels(self, first: int) -> None:
        """Remove the levels from index ``first`` on, with their ``alpha``."""
        for index in range(first, self.num_levels):
            delattr(self, f'level{index}')
            delattr(self, f'alpha{index}')
        self.num_levels = min(first, self.num_levels)

    def draw_drop_path(self, x: Tensor) -> list[list[Tensor | None]] | None:
        """Draw which samples of the batch ``x`` skip which blocks; ``None`` if nothing drops.

        The factors are drawn ahead of the column so that it is a function of its inputs alone
        and can be computed again, with the same factors, in the backward pass.
        """
        if not self.training or not any(rate for rates in self.drop_path_rates for rate in rates):
            return None
        dtype = self.alphas[0].dtype
        return [
            [_draw_keep(len(x), rate, x.device, dtype) for rate in rates]
            for rates in self.drop_path_rates
        ]


def _draw_keep(batch: int, rate: float, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    if rate == 0:
        return None
    kept = torch.empty(batch, device=device, dtype=dtype).bernoulli_(1 - rate)
    return kept / (1 - rate)

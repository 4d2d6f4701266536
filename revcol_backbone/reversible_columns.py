"""Columns of any levels: RevCol's macro design (arXiv 2212.11696, equation 4) as a module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from revcol_backbone.argument_checks import check_flag, check_integer
from revcol_backbone.column import Column, Features
from revcol_backbone.deploy import DeployedColumn, fold
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY, run_reversibly


class ReversibleColumns(nn.Module):
    """A stem and columns, trained in memory that does not grow with the number of columns.

    Level l of column i is c[l,i] = F[l,i](c[l-1,i], c[>l,i-1]) + alpha[l,i] * c[l,i-1], with the
    stem's output below level 0. Each F is a module of yours: see
    :class:`~revcol_backbone.column.Column` for what it is called with. A level has the same shape
    in all columns, such as (B, C, H, W) of a feature map or (B, N, C) of a token sequence. Levels
    may be of different shapes. The state dict has ``stem.*``, ``subnet{i}.level{l}.*`` and
    ``subnet{i}.alpha{l}``.

    Args:
        columns: The columns, the first one first; all have the same number of levels, at least two.
        stem: Makes what is below level 0 from the network's input.
        save_memory: Recompute the columns in the backward pass instead of keeping them. Evaluation
            is not affected. Default ``True``.
        anchor_every: With ``save_memory``, the outputs of every ``anchor_every``-th column are
            kept, and those between are recomputed backwards from them: 1 keeps every column's
            outputs, 0 only the last one's. Rounding grows with every column undone.
        frozen_columns: -1 freezes nothing, 0 the stem, n the stem and the first n columns:
            they stay in evaluation mode and get no gradients.
        **kwargs: Arguments of a further base class of a subclass, such as mmengine's ``init_cfg``.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed. In a forward
            pass, an alpha or a level has a shape that does not fit.

    Example:
        >>> columns = [
        ...     Column([FirstLevel(i), SecondLevel(i)], alpha_shapes=[(64,), (128,)])
        ...     for i in range(8)
        ... ]
        >>> network = ReversibleColumns(columns, stem=nn.Linear(16, 64))
        >>> low, high = network(torch.rand(2, 50, 16), mask)  # each level is given the mask
    """

    def __init__(
        self,
        columns: Sequence[Column],
        stem: nn.Module,
        save_memory: bool = True,
        anchor_every: int = DEFAULT_ANCHOR_EVERY,
        frozen_columns: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        columns = _check_columns(owner, columns)
        self.save_memory = check_flag(owner, 'save_memory', save_memory)
        self.anchor_every = check_integer(owner, 'anchor_every', anchor_every, 0)
        self.frozen_columns = check_integer(
            owner, 'frozen_columns', frozen_columns, -1, len(columns)
        )
        self.deploy = False
        self._number_of_columns = len(columns)
        self.stem = stem
        for index, column in enumerate(columns):
            self.add_module(f'subnet{index}', column)
        for module in self._frozen_modules():
            module.requires_grad_(False)

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self._number_of_columns

    def forward(self, x: Any, *constants: object) -> Features:
        """Compute the levels of the last column.

        Args:
            x: What the stem takes.
            *constants: Further arguments of every level that need no gradient, such as masks.

        Returns:
            The levels of the last column, the lowest first.
        """
        (features,) = self.run_columns(self.stem(x), constants=constants)
        return features

    def run_columns(
        self,
        stem: Tensor,
        outputs: Sequence[int] | None = None,
        constants: Sequence[object] = (),
    ) -> list[Features]:
        """Run the columns on the stem's output, with ``save_memory`` as set.

        Args:
            stem: The stem's output, such as (B, C, H, W) or (B, N, C).
            outputs: Positions of the columns to return, as for intermediate supervision; with
                ``save_memory`` this costs no memory beyond what the caller holds on to. ``None``
                returns the last column.
            constants: Further arguments of every level that need no gradient, such as masks.

        Returns:
            The levels of each of these columns; of the last columns those alone that the network
            returns.
        """
        columns = [getattr(self, f'subnet{index}') for index in range(self.columns)]
        outputs = [self.columns - 1] if outputs is None else outputs
        keep, counts = [None] * self.columns, self.level_counts()
        if not self.deploy:
            keep = [column.draw_drop_path(stem) for column in columns]
        # A trace holds what is computed, not how to differentiate it.
        if self.save_memory and torch.is_grad_enabled() and not torch.jit.is_tracing():
            return run_reversibly(
                columns, stem, keep, self.anchor_every, outputs, counts, constants
            )
        features, found = None, {}
        for position, column in enumerate(columns):
            features = column(stem, features, keep[position], counts[position], constants)
            if position in outputs:
                found[position] = features
        return [found[position] for position in outputs]

    def level_counts(self) -> list[int]:
        """How many levels of each column are computed, from the lowest."""
        return [getattr(self, f'subnet{index}').num_levels for index in range(self.columns)]

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Make the trained network one for inference alone; again changes nothing.

        A stem or level with a method ``switch_to_deploy`` folds itself; ``alpha`` is bounded once;
        the unused ``alpha`` of the first column, drop path and the memory-saving backward pass are
        dropped. The network cannot be trained afterwards.
        """
        if self.deploy:
            return
        self.stem = fold(self.stem)
        for index in range(self.columns):
            column = DeployedColumn(getattr(self, f'subnet{index}'), is_first_column=index == 0)
            self.add_module(f'subnet{index}', column)
        self.deploy, self.save_memory = True, False
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> ReversibleColumns:
        """Switch between training and evaluation; frozen parts stay in evaluation mode.

        Raises:
            RuntimeError: Training is asked of a deployed network.
        """
        if mode and self.deploy:
            raise RuntimeError(
                f'this {type(self).__name__} was switched to deploy and cannot be trained; build '
                'it anew, with deploy=False if it takes that, and load the trained checkpoint.'
            )
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_columns < 0:
            return []
        return [self.stem, *(getattr(self, f'subnet{i}') for i in range(self.frozen_columns))]


def _check_columns(owner: str, columns: Sequence[Column]) -> list[Column]:
    columns = list(columns)
    if not columns:
        raise ValueError(f'{owner} columns is empty; give at least one Column.')
    for index, column in enumerate(columns):
        if not isinstance(column, Column):
            raise ValueError(
                f'{owner} columns[{index}] is a {type(column).__name__}; give a '
                'revcol_backbone.Column.'
            )
        if column.num_levels < 2:
            raise ValueError(
                f'{owner} columns[{index}] has {column.num_levels} level; give at least two, '
                'because each level takes the one above it in the column before.'
            )
        if column.num_levels != columns[0].num_levels:
            raise ValueError(
                f'{owner} columns[{index}] has {column.num_levels} levels and columns[0] has '
                f'{columns[0].num_levels}; give all columns the same number.'
            )
        if any(column is other for other in columns[:index]):
            raise ValueError(
                f'{owner} columns[{index}] is the same module as an earlier one; make a column '
                'for every position.'
            )
    return columns

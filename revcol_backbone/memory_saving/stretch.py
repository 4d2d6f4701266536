"""Consecutive columns that one autograd function computes and undoes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from revcol_backbone.column import Column, Keep
from revcol_backbone.memory_saving.anchors import AlphaReading, KeptLevel, choose_kept
from revcol_backbone.memory_saving.kept_outputs import BUDGET, KeptOutputs, choose_outputs
from revcol_backbone.memory_saving.recomputation import LevelCall


class Stretch:
    """Columns that are undone in one function: all of a forward pass that is not a tensor."""

    def __init__(
        self,
        columns: Sequence[Column],
        positions: Sequence[int],
        keep: Sequence[Keep],
        counts: Sequence[int],
        anchor_every: int,
        outputs: Sequence[int],
        constants: Sequence[object],
        alphas: AlphaReading,
    ) -> None:
        self.columns, self.positions = columns, positions
        self.keep, self.counts, self.constants = keep, counts, constants
        self.anchor_every, self.all_alphas = anchor_every, alphas
        wanted = {range(len(columns))[position] for position in outputs} | {positions[-1]}
        self.outputs = sorted(wanted & set(positions))
        # Of each (column, level) its alpha, as FSDP may replace it, and its call.
        self.alphas = {p: columns[p].alphas[: counts[p]] for p in positions}
        self.calls = {
            (p, index): LevelCall(level)
            for p in positions
            for index, level in enumerate(columns[p].levels[: counts[p]])
        }
        self.kept: dict[tuple[int, int], KeptLevel] = {}
        self.kept_outputs: KeptOutputs | None = None if anchor_every else KeptOutputs()

    @property
    def start(self) -> int:
        """Position of the column before the first one; -1 where there is none."""
        return self.positions[0] - 1

    def number_of_levels(self, position: int) -> int:
        return self.counts[position] if position >= 0 else 0

    def tensors(self) -> list[Tensor]:
        """Of every level its alpha and then its weights."""
        flat = []
        for (position, index), call in self.calls.items():
            flat += [self.alphas[position][index], *call.tensors]
        return flat

    def arguments(
        self, position: int, index: int, below: Tensor, previous: Sequence[Tensor | None] | None
    ) -> tuple:
        """What a level is called with."""
        above = () if previous is None else tuple(previous[index + 1 :])
        keep = self.keep[position]
        return (below, above, keep[index] if keep else None, *self.constants)

    def blocks_to_keep(self, position: int, index: int) -> list[int]:
        """The blocks of a level whose outputs are kept; all before this was chosen."""
        blocks = range(-self.calls[position, index].chain_length, -1)
        if self.kept_outputs is None:
            return list(blocks)
        return [block for block in blocks if (position, index, block) in self.kept_outputs.blocks]

    def choose_outputs(self, stem: Tensor, levels: Sequence[Tensor]) -> KeptOutputs:
        """Decide which outputs are kept to spare work, from the levels of the first column."""
        if self.kept_outputs is None:
            sizes = [level.numel() * level.element_size() for level in levels]
            chains = [self.calls[self.positions[0], i].chain_length for i in range(len(levels))]
            budget = BUDGET * stem.numel() * stem.element_size()
            self.kept_outputs = choose_outputs(self.positions, sizes, chains, budget)
        return self.kept_outputs

    def choose_kept(self) -> None:
        """Decide what is kept for the sake of rounding errors, which waits for the alphas."""
        alphas = self.all_alphas.get()[self.positions[0] : self.positions[-1] + 1]
        shapes = [[alpha.shape for alpha in self.alphas[p]] for p in self.positions]
        also = self.kept_outputs.levels if self.kept_outputs else ()
        self.kept = choose_kept(alphas, shapes, self.anchor_every, self.positions[0], also)

"""The backward pass over columns: from the last to the first, and down the levels of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import cast

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from revcol_backbone.block.block_function import KnownOutput
from revcol_backbone.memory_saving.stretch import Stretch
from revcol_backbone.shortcut import bounded_alpha, bounded_alpha_gradient, invert_shortcut


class WalkBack:
    """The way from the last column to the first, over tensors detached from the outer graph.

    Args:
        stretch: The forward pass.
        leaves: The inputs of the autograd function, as leaves.
        kept: What was kept of each (column, level).
        blocks: The outputs of blocks that were kept, by (column, level, block).
    """

    def __init__(
        self,
        stretch: Stretch,
        leaves: Sequence[Tensor],
        kept: dict[tuple[int, int], Tensor],
        blocks: dict[tuple[int, int, int], Tensor],
    ) -> None:
        self.stretch, self.kept, self.blocks = stretch, kept, blocks
        self.gradients: dict[Tensor, Tensor] = {}
        rest = iter(leaves)
        self.stem = next(rest)
        start: list[Tensor | None] = list(islice(rest, stretch.number_of_levels(stretch.start)))
        self.levels: dict[int, list[Tensor | None]] = {stretch.start: start}
        self.alphas, self.weights = {}, {}
        for key, call in stretch.calls.items():
            self.alphas[key] = next(rest)
            self.weights[key] = list(islice(rest, len(call.tensors)))

    def run(self, gradients: Sequence[Tensor | None]) -> None:
        """Collect the gradients of all leaves from those of the returned levels."""
        entering, rest = {}, iter(gradients)
        for position in self.stretch.outputs:
            count = self.stretch.number_of_levels(position)
            entering[position] = list(islice(rest, count))
        last = self.stretch.positions[-1]
        self.levels[last] = [self._kept_whole(last, i) for i in range(len(entering[last]))]
        for position in reversed(self.stretch.positions):
            outputs = self.levels.pop(position)
            for output, gradient in zip(outputs, entering.get(position, ()), strict=False):
                self._add(cast(Tensor, output), gradient)
            self._through_column(position, outputs)

    def _through_column(self, position: int, outputs: list[Tensor | None]) -> None:
        """Top level first: a level needs those above it in the column before."""
        previous = self._levels_before(position)
        for index in reversed(range(len(outputs))):
            is_known = previous is None or previous[index] is not None
            output = cast(Tensor, outputs[index])
            outputs[index] = None
            gradient = self.gradients.pop(output, None)
            if is_known and gradient is None:
                continue
            below = cast(Tensor, outputs[index - 1]) if index else self.stem
            fused, leaves = self._recompute(position, index, below, previous, gradient, is_known)
            if previous is not None and not is_known:
                previous[index] = self._undo(position, index, output, fused)
            del output
            if gradient is None:
                continue
            if leaves and fused.requires_grad:
                # The edge alone, so that the backward pass has the memory of the values.
                edge, gradient_of_fused = get_gradient_edge(fused), gradient.to(fused.dtype)
                del fused
                found = torch.autograd.grad(edge, leaves, gradient_of_fused, allow_unused=True)
                for leaf, leaf_gradient in zip(leaves, found, strict=True):
                    self._add(leaf, leaf_gradient)
            before = None if previous is None else previous[index]
            self._through_shortcut(position, index, before, gradient)

    def _levels_before(self, position: int) -> list[Tensor | None] | None:
        """The levels of the column before, as far as they are known; None for the first column."""
        if position == 0:
            return None
        before = position - 1
        if before not in self.levels:
            count = self.stretch.number_of_levels(before)
            self.levels[before] = [self._kept_whole(before, index) for index in range(count)]
        return self.levels[before]

    def _kept_whole(self, position: int, index: int) -> Tensor | None:
        choice = self.stretch.kept.get((position, index))
        if choice is None or not choice.is_whole:
            return None
        return self.kept.pop((position, index)).detach().requires_grad_()

    def _recompute(
        self,
        position: int,
        index: int,
        below: Tensor,
        previous: Sequence[Tensor | None] | None,
        gradient: Tensor | None,
        is_known: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """F[l,i], and where it gets a gradient its local graph and the leaves that want one."""
        weights = self.weights[position, index]
        arguments = self.stretch.arguments(position, index, below, previous)
        keys = [key for key in self.blocks if key[:2] == (position, index)]
        known = {key[-1]: KnownOutput(self.blocks.pop(key)) for key in keys}
        if gradient is not None:
            known[-1] = KnownOutput(gradient=gradient, needs_value=not is_known)
        with torch.set_grad_enabled(gradient is not None):
            fused = self.stretch.calls[position, index].repeat(weights, *arguments, known=known)
        leaves = [below, *arguments[1], *weights]
        return fused, [leaf for leaf in leaves if leaf.requires_grad]

    def _undo(self, position: int, index: int, output: Tensor, fused: Tensor) -> Tensor:
        alpha = self.alphas[position, index].detach()
        level = invert_shortcut(output.detach(), fused.detach(), alpha)
        key = (position - 1, index)
        if key in self.kept:
            level = self.stretch.kept[key].restore(level, self.kept.pop(key))
        return level.requires_grad_()

    def _through_shortcut(
        self, position: int, index: int, previous: Tensor | None, gradient: Tensor
    ) -> None:
        alpha = self.alphas[position, index]
        if previous is None:
            if alpha.requires_grad:
                self._add(alpha, torch.zeros_like(alpha))
            return
        if alpha.requires_grad:
            product = (gradient * previous.detach()).sum_to_size(alpha.shape)
            self._add(alpha, bounded_alpha_gradient(alpha.detach(), product.to(alpha.dtype)))
        if previous.requires_grad:
            product = gradient * bounded_alpha(alpha.detach())
            self._add(previous, product.to(previous.dtype))

    def _add(self, leaf: Tensor, gradient: Tensor | None) -> None:
        if gradient is not None and leaf.requires_grad:
            known = self.gradients.get(leaf)
            self.gradients[leaf] = gradient if known is None else known + gradient

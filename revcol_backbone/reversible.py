"""Training memory that does not grow with the columns: one backward pass over all of them.

The forward pass keeps the stem's output and what :mod:`revcol_backbone.anchors` chooses. The
backward pass walks the columns from last to first and the levels of each from top to bottom. At
every level it computes F once more, which serves twice: it is the local graph for the gradients
and, where the column before was not kept, gives that column's level by the inverse.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils.weak import WeakIdKeyDictionary

from revcol_backbone.anchors import AlphaReading, KeptLevel, choose_kept
from revcol_backbone.column import (
    Column,
    Features,
    Keep,
    add_shortcut,
    bounded_alpha,
    bounded_alpha_gradient,
    invert_shortcut,
)
from revcol_backbone.recomputation import (
    LevelCall,
    has_other_hooks,
    watching_hooks,
    why_not_repeatable,
)

DEFAULT_ANCHOR_EVERY = 4
_WARNED: WeakIdKeyDictionary = WeakIdKeyDictionary()


@torch.compiler.disable
def run_reversibly(
    columns: Sequence[Column],
    stem: Tensor,
    keep: Sequence[Keep] | None = None,
    anchor_every: int = DEFAULT_ANCHOR_EVERY,
    outputs: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
    constants: Sequence[object] = (),
) -> list[Features]:
    """Run columns so that the backward pass recomputes what the forward pass did not keep.

    Hooks on a column work as in plain training and cost the memory of its levels. A column with
    hooks inside of it is run as in plain training, with a warning, because what they see could not
    be computed twice.

    Args:
        columns: All columns of the network, the first one first.
        stem: What is below level 0 of every column.
        keep: For every column what its :meth:`~Column.draw_drop_path` drew; ``None`` drops nothing.
        anchor_every: Keep the levels of at least every so-many-th column; 0 keeps only the last
            one's, whatever that does to the gradients' rounding errors.
        outputs: Positions of the columns to return; ``None`` returns the last one. Gradients may
            enter at any of them, and returning a column does not keep it.
        counts: How many levels of each column to compute, from the lowest; ``None`` for all. A
            column may have fewer than the one before it, but not more.
        constants: Further arguments of every level that need no gradient, such as masks.

    Returns:
        The levels of those columns, in the order of ``outputs``, equal to those of the plain
        forward pass. First-order gradients reach the stem and all parameters through autograd.

    Raises:
        ValueError: A constant needs a gradient, or a level uses weights that are not its own.
        RuntimeError: In the backward pass, gradients of gradients are asked for.
    """
    if any(isinstance(value, Tensor) and value.requires_grad for value in constants):
        raise ValueError(
            'a constant of the columns needs a gradient, which the memory-saving backward pass '
            'does not compute; detach it, or build the network with save_memory=False.'
        )
    last = len(columns) - 1
    outputs = [last] if outputs is None else list(outputs)
    keep = [None] * len(columns) if keep is None else keep
    counts = [len(column.levels) for column in columns] if counts is None else counts
    alphas = AlphaReading([c.alphas[:count] for c, count in zip(columns, counts, strict=True)])
    found, features, waiting = {}, None, []

    def undo(
        positions: list[int], stem: Tensor, features: Features | None = None
    ) -> Features | None:
        stretch = _Stretch(
            columns, positions, keep, counts, anchor_every, outputs, constants, alphas
        )
        flat = iter(_Undone.apply(stretch, stem, *(features or ()), *stretch.tensors()))
        for position in stretch.outputs:
            found[position] = tuple(islice(flat, counts[position]))
        return found[positions[-1]]

    for position, column in enumerate(columns):
        if not waiting and not _needs_gradient(column, stem, *(features or ())):
            with torch.no_grad():
                features = column(stem, features, keep[position], counts[position], constants)
            found[position] = features
            continue
        reason = why_not_repeatable(column)
        is_alone = reason or has_other_hooks(column) or not isinstance(column, Column)
        if is_alone and waiting:
            features, waiting = undo(waiting, stem, features), []
        if reason:
            _warn_once(column, position, reason)
            features = column(stem, features, keep[position], counts[position], constants)
        elif is_alone:
            # What hangs on the column surrounds the part that is computed again.
            features = column(stem, features, compute=partial(undo, [position]))
        else:
            waiting.append(position)
        found[position] = features
    if waiting:
        undo(waiting, stem, features)
    return [found[range(len(columns))[position]] for position in outputs]


class _Stretch:
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
        self, position: int, index: int, below: Tensor, previous: Sequence[Tensor] | None
    ) -> tuple:
        """What a level is called with."""
        above = () if previous is None else tuple(previous[index + 1 :])
        keep = self.keep[position]
        return (below, above, keep[index] if keep else None, *self.constants)

    def choose_kept(self) -> None:
        """Decide what is kept, which waits for the alphas."""
        alphas = self.all_alphas.get()[self.positions[0] : self.positions[-1] + 1]
        shapes = [[alpha.shape for alpha in self.alphas[p]] for p in self.positions]
        self.kept = choose_kept(alphas, shapes, self.anchor_every, self.positions[0])


class _Undone(torch.autograd.Function):
    """From the stem's output, the levels before and all weights to the levels asked for."""

    @staticmethod
    def forward(ctx, stretch: _Stretch, stem: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = stretch.number_of_levels(stretch.start)
        start, weights = tensors[:count], tensors[count:]
        previous, computed, outputs, kept = start or None, {}, [], {}
        for position in stretch.positions:
            below, features = stem, []
            for index, alpha in enumerate(stretch.alphas[position]):
                arguments = stretch.arguments(position, index, below, previous)
                below = stretch.calls[position, index].run(*arguments)
                if previous is not None:
                    below = add_shortcut(below, alpha, previous[index])
                features.append(below)
            for hook in watching_hooks(stretch.columns[position]):
                hook(stretch.columns[position], (stem, previous), tuple(features))
            previous = features
            computed |= {(position, index): level for index, level in enumerate(features)}
            if position in stretch.outputs:
                outputs += features
            # Not before the second column: a GPU works on these two while the host waits.
            if position > stretch.positions[0] or position == stretch.positions[-1]:
                if not stretch.kept:
                    stretch.choose_kept()
                kept |= {
                    key: stretch.kept[key].take(level)
                    for key, level in computed.items()
                    if key in stretch.kept
                }
                computed = {}
        ctx.stretch = stretch
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(stem, *start, *weights, *(kept[key] for key in stretch.kept))
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                'save_memory=True gives first-order gradients only; build the network with '
                'save_memory=False to differentiate twice.'
            )
        stretch = ctx.stretch
        _, *needs = ctx.needs_input_grad
        saved = iter(ctx.saved_tensors)
        leaves = [
            tensor.detach().requires_grad_(need)
            for tensor, need in zip(islice(saved, len(needs)), needs, strict=True)
        ]
        walk = _Walk(stretch, leaves, dict(zip(stretch.kept, saved, strict=True)))
        walk.run(gradients)
        return None, *(walk.gradients.get(leaf) for leaf in leaves)


class _Walk:
    """The way from the last column to the first, over tensors detached from the outer graph.

    Args:
        stretch: The forward pass.
        leaves: The inputs of the autograd function, as leaves.
        kept: What was kept of each (column, level).
    """

    def __init__(
        self,
        stretch: _Stretch,
        leaves: Sequence[Tensor],
        kept: dict[tuple[int, int], Tensor],
    ) -> None:
        self.stretch, self.kept = stretch, kept
        self.gradients: dict[Tensor, Tensor] = {}
        rest = iter(leaves)
        self.stem = next(rest)
        start = list(islice(rest, stretch.number_of_levels(stretch.start)))
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
                self._add(output, gradient)
            self._through_column(position, outputs)

    def _through_column(self, position: int, outputs: list[Tensor | None]) -> None:
        """Top level first: a level needs those above it in the column before."""
        previous = self._levels_before(position)
        for index in reversed(range(len(outputs))):
            is_known = previous is None or previous[index] is not None
            output, outputs[index] = outputs[index], None
            gradient = self.gradients.pop(output, None)
            if is_known and gradient is None:
                continue
            below = outputs[index - 1] if index else self.stem
            fused, leaves = self._recompute(position, index, below, previous, gradient is not None)
            if not is_known:
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
            self._through_shortcut(position, index, previous and previous[index], gradient)

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
        previous: Sequence[Tensor] | None,
        with_graph: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """F[l,i], with its local graph, and the leaves of that graph that want a gradient."""
        weights = self.weights[position, index]
        arguments = self.stretch.arguments(position, index, below, previous)
        with torch.set_grad_enabled(with_graph):
            fused = self.stretch.calls[position, index].repeat(weights, *arguments)
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


def _needs_gradient(column: nn.Module, *inputs: Tensor) -> bool:
    return any(tensor.requires_grad for tensor in (*inputs, *column.parameters()))


def _warn_once(column: nn.Module, position: int, reason: str) -> None:
    if column not in _WARNED:
        _WARNED[column] = True
        warnings.warn(
            f'column {position} is trained without saving memory, because {reason}.', stacklevel=3
        )

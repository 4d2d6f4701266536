"""Training memory that does not grow with the columns: one backward pass over all of them.

The last column is run as in plain training if its blocks keep little for that, unless
``anchor_every`` is 0. Of the others the forward pass keeps the stem's output and what
:mod:`~revcol_backbone.memory_saving.anchors` and :mod:`~revcol_backbone.memory_saving.kept_outputs`
choose, and the backward pass walks them from last to first and the levels of each from top to
bottom. At every level it computes F once more, which serves twice: it is the local graph for the
gradients and, where the column before was not kept, gives that column's level by the inverse.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from revcol_backbone.column import Column, Features, Keep
from revcol_backbone.memory_saving.anchors import AlphaReading
from revcol_backbone.memory_saving.recomputation import (
    has_other_hooks,
    watching_hooks,
    why_not_repeatable,
)
from revcol_backbone.memory_saving.stretch import Stretch
from revcol_backbone.memory_saving.walk_back import WalkBack
from revcol_backbone.shortcut import add_shortcut, leave_out_shortcut

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
    found: dict[int, Features] = {}
    waiting: list[int] = []
    features: Features | None = None

    def undo(positions: list[int], stem: Tensor, features: Features | None = None) -> Features:
        stretch = Stretch(
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
        # The backward pass begins with the last column: its graph is gone before the walk needs
        # as much memory, and nothing of it is computed twice.
        is_last = position == last and anchor_every > 0 and _keeps_little(column)
        is_alone = reason or is_last or has_other_hooks(column) or not isinstance(column, Column)
        if is_alone and waiting:
            features, waiting = undo(waiting, stem, features), []
        if reason:
            _warn_once(column, position, reason)
        if reason or is_last:
            features = column(stem, features, keep[position], counts[position], constants)
        elif is_alone:
            # What hangs on the column surrounds the part that is computed again.
            features = column(stem, features, compute=partial(undo, [position]))
        else:
            waiting.append(position)
            continue
        found[position] = features
    if waiting:
        undo(waiting, stem, features)
    return [found[range(len(columns))[position]] for position in outputs]


class _Undone(torch.autograd.Function):
    """From the stem's output, the levels before and all weights to the levels asked for."""

    @staticmethod
    def forward(ctx, stretch: Stretch, stem: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = stretch.number_of_levels(stretch.start)
        start, weights = tensors[:count], tensors[count:]
        previous: Sequence[Tensor] | None = start or None
        computed: dict[tuple[int, int], Tensor] = {}
        kept: dict[tuple[int, int], Tensor] = {}
        blocks: dict[tuple[int, int, int], Tensor] = {}
        outputs: list[Tensor] = []
        for position in stretch.positions:
            below, features = stem, []
            for index, alpha in enumerate(stretch.alphas[position]):
                arguments = stretch.arguments(position, index, below, previous)
                below, found = stretch.calls[position, index].run(
                    *arguments, keep=stretch.blocks_to_keep(position, index)
                )
                blocks |= {(position, index, block): value for block, value in found.items()}
                if previous is None:
                    below = leave_out_shortcut(below, alpha)
                else:
                    below = add_shortcut(below, alpha, previous[index])
                features.append(below)
            for hook in watching_hooks(stretch.columns[position]):
                hook(stretch.columns[position], (stem, previous), tuple(features))
            if position == stretch.positions[0]:
                chosen = stretch.choose_outputs(stem, features).blocks
                blocks = {key: value for key, value in blocks.items() if key in chosen}
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
        ctx.blocks = list(blocks)
        kept_levels = (kept[key] for key in stretch.kept)
        ctx.save_for_backward(stem, *start, *weights, *kept_levels, *blocks.values())
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
        kept = {key: next(saved) for key in stretch.kept}
        walk = WalkBack(stretch, leaves, kept, dict(zip(ctx.blocks, saved, strict=True)))
        walk.run(gradients)
        return None, *(walk.gradients.get(leaf) for leaf in leaves)


def _keeps_little(column: nn.Module) -> bool:
    """Whether each level's blocks are functions that keep two maps, not autograd's twelve."""
    return isinstance(column, Column) and all(
        getattr(level, 'chain', ()) for level in column.levels
    )


def _needs_gradient(column: nn.Module, *inputs: Tensor) -> bool:
    return any(tensor.requires_grad for tensor in (*inputs, *column.parameters()))


def _warn_once(column: nn.Module, position: int, reason: str) -> None:
    if column not in _WARNED:
        _WARNED[column] = True
        warnings.warn(
            f'column {position} is trained without saving memory, because {reason}.', stacklevel=3
        )

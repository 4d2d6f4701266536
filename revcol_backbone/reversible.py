"""Training memory that does not grow with the columns: one backward pass over the whole stack.

The forward pass keeps the stem's output and the outputs of the anchor columns and of the last
column. The backward pass walks the columns from last to first and the levels of each from top to
bottom. At every level it computes F once more, which serves twice: it is the local graph for the
gradients and, where the column before was not kept, gives that column's level by the inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.func import functional_call

from revcol_backbone.column import Column, Features, bounded_alpha, invert_shortcut

DEFAULT_ANCHOR_EVERY = 4


@torch.compiler.disable
def run_reversibly(
    columns: Sequence[Column], stem: Tensor, keep: Sequence, anchor_every: int
) -> Features:
    """Run the columns so that the backward pass recomputes what the forward pass did not keep.

    Args:
        columns: All columns of the network, the first one first.
        stem: The stem's output, (B, C[0], H, W).
        keep: For every column what :meth:`Column.draw_drop_path` drew.
        anchor_every: Keep the outputs of every so-many-th column; 0 keeps only the last one's.

    Returns:
        The levels of the last column, equal to those of the plain forward pass. First-order
        gradients reach the stem and all parameters through autograd; asking for gradients of
        gradients raises ``RuntimeError``.
    """
    features, first = None, 0
    while first < len(columns) and not _needs_gradient(columns[first], stem):
        with torch.no_grad():
            features = columns[first](stem, features, keep[first])
        first += 1
    if first == len(columns):
        return features
    stack = _Stack(columns, keep, anchor_every, first, _autocast_now(stem.device.type))
    return _ReversibleStack.apply(stack, stem, *(features or ()), *stack.parameters())


@dataclass(frozen=True)
class _Stack:
    """What a forward pass hands to its backward pass beside tensors."""

    columns: Sequence[Column]
    keep: Sequence
    anchor_every: int
    first: int
    autocast: dict | None

    @property
    def start_levels(self) -> int:
        """Number of levels of the last frozen column, from which the walk starts."""
        return len(self.columns[self.first - 1].levels) if self.first else 0

    @property
    def positions(self) -> range:
        """The columns that get gradients; those before are frozen."""
        return range(self.first, len(self.columns))

    @property
    def anchors(self) -> list[int]:
        """The columns whose outputs are kept."""
        last = len(self.columns) - 1
        every = self.anchor_every
        return [p for p in self.positions if p == last or (every > 0 and (p + 1) % every == 0)]

    def levels(self) -> list[tuple[int, int]]:
        """(column, level) of every level that gets gradients, in the order of the forward pass."""
        return [
            (position, index)
            for position in self.positions
            for index in range(len(self.columns[position].levels))
        ]

    def parameters(self) -> list[Tensor]:
        """Of every level its alpha and then its parameters, as they are now.

        They are looked up as attributes, because FSDP replaces them by views of a flat parameter.
        """
        tensors = []
        for position, index in self.levels():
            column = self.columns[position]
            level = column.levels[index]
            tensors += [column.alphas[index]]
            tensors += [attrgetter(name)(level) for name in _parameter_names(level)]
        return tensors

    def autocast_context(self) -> AbstractContextManager:
        """The autocast state of the forward pass.

        Its cache is off: casts cached without gradients would cut those of a later user.
        """
        return (
            torch.autocast(**self.autocast, cache_enabled=False) if self.autocast else nullcontext()
        )


class _ReversibleStack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, stack: _Stack, stem: Tensor, *tensors: Tensor) -> Features:
        start, parameters = tensors[: stack.start_levels], tensors[stack.start_levels :]
        features = start or None
        kept = []
        with stack.autocast_context():
            for position in stack.positions:
                features = stack.columns[position](stem, features, stack.keep[position])
                if position in stack.anchors:
                    kept.extend(features)
        ctx.stack = stack
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(stem, *start, *kept, *parameters)
        return features

    @staticmethod
    def backward(ctx, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                'RevCol with save_memory=True has first-order gradients only; build it with '
                'save_memory=False to differentiate twice.'
            )
        stem, *saved = ctx.saved_tensors
        outputs = {}
        stack = ctx.stack
        outputs[stack.first - 1], saved = saved[: stack.start_levels], saved[stack.start_levels :]
        for position in stack.anchors:
            count = len(stack.columns[position].levels)
            outputs[position], saved = saved[:count], saved[count:]
        _, needs_stem, *needs = ctx.needs_input_grad
        stem = _leaf(stem, needs_stem)
        parameters = [_leaf(*pair) for pair in zip(saved, needs[stack.start_levels :], strict=True)]
        found = _BackwardPass(stack, stem, outputs, parameters).run(gradients)
        no_start = (None,) * stack.start_levels
        return None, found.get(stem), *no_start, *(found.get(leaf) for leaf in parameters)


class _BackwardPass:
    """The walk from the last column to the first, over tensors detached from the outer graph.

    Args:
        stack: The forward pass.
        stem: The stem's output.
        outputs: The levels of the columns that were kept.
        parameters: Those of the stack, in its order.
    """

    def __init__(
        self,
        stack: _Stack,
        stem: Tensor,
        outputs: dict[int, Sequence[Tensor]],
        parameters: Sequence[Tensor],
    ) -> None:
        self.stack, self.stem = stack, stem
        self.outputs = {
            position: [_leaf(level, position >= stack.first) for level in levels]
            for position, levels in outputs.items()
        }
        self.gradients: dict[Tensor, Tensor] = {}
        leaves = iter(parameters)
        self.alphas: dict[tuple[int, int], Tensor] = {}
        self.parameters: dict[tuple[int, int], dict[str, Tensor]] = {}
        for position, index in stack.levels():
            names = _parameter_names(stack.columns[position].levels[index])
            self.alphas[position, index] = next(leaves)
            self.parameters[position, index] = {name: next(leaves) for name in names}

    def run(self, gradients: Sequence[Tensor | None]) -> dict[Tensor, Tensor]:
        """From the gradients of the last column's levels, those of the stem and parameters."""
        last = self.stack.positions[-1]
        for output, gradient in zip(self.outputs[last], gradients, strict=True):
            self._add(output, gradient)
        for position in reversed(self.stack.positions):
            self._through_column(position)
        return self.gradients

    def _through_column(self, position: int) -> None:
        """Top level first: a level needs those above it in the column before."""
        outputs = self.outputs.pop(position)
        is_first = position == 0
        if not is_first and position - 1 not in self.outputs:
            self.outputs[position - 1] = [None] * len(self.stack.columns[position - 1].levels)
        previous = None if is_first else self.outputs[position - 1]
        for index in reversed(range(len(outputs))):
            is_known = is_first or previous[index] is not None
            gradient = self.gradients.pop(outputs[index], None)
            if is_known and gradient is None:
                continue
            below = outputs[index - 1] if index else self.stem
            fused, leaves = self._recompute(position, index, below, previous)
            if not is_known:
                alpha = self.alphas[position, index].detach()
                inverse = invert_shortcut(outputs[index].detach(), fused.detach(), alpha)
                previous[index] = _leaf(inverse, True)
            outputs[index] = None  # frees its memory
            if gradient is not None:
                self._add_gradients(fused, leaves, gradient)
                shortcut = None if is_first else previous[index]
                self._add_shortcut_gradients(position, index, shortcut, gradient)

    def _recompute(
        self, position: int, index: int, below: Tensor, previous: Sequence[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """F[l,i] with its local graph, and the leaves of that graph that want a gradient."""
        level = self.stack.columns[position].levels[index]
        parameters = self.parameters[position, index]
        keep = self.stack.keep[position]
        above = () if previous is None else tuple(previous[index + 1 :])
        with torch.enable_grad(), self.stack.autocast_context():
            arguments = (below, above, keep[index] if keep else None)
            fused = functional_call(level, parameters, arguments)
        leaves = (below, *above, *parameters.values())
        return fused, [leaf for leaf in leaves if leaf.requires_grad]

    def _add_gradients(self, fused: Tensor, leaves: list[Tensor], gradient: Tensor) -> None:
        if not leaves:
            return
        found = torch.autograd.grad(fused, leaves, gradient.to(fused.dtype), allow_unused=True)
        for leaf, leaf_gradient in zip(leaves, found, strict=True):
            self._add(leaf, leaf_gradient)

    def _add_shortcut_gradients(
        self, position: int, index: int, previous: Tensor | None, gradient: Tensor
    ) -> None:
        alpha = self.alphas[position, index]
        if previous is None:
            if alpha.requires_grad:
                self._add(alpha, torch.zeros_like(alpha))
            return
        if alpha.requires_grad:
            product = (gradient * previous.detach()).sum_to_size(alpha.shape)
            self._add(alpha, product.to(alpha.dtype))
        if previous.requires_grad:
            self._add(previous, gradient * bounded_alpha(alpha.detach()))

    def _add(self, leaf: Tensor, gradient: Tensor | None) -> None:
        if gradient is not None:
            known = self.gradients.get(leaf)
            self.gradients[leaf] = gradient if known is None else known + gradient


def _needs_gradient(column: Column, stem: Tensor) -> bool:
    return stem.requires_grad or any(parameter.requires_grad for parameter in column.parameters())


def _parameter_names(level: nn.Module) -> list[str]:
    """Names of the level's parameters, also where FSDP has put views in their place."""
    names = [name for name, _ in level.named_parameters()]
    return names or [
        f'{prefix}.{name}' if prefix else name
        for prefix, module in level.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]


def _leaf(tensor: Tensor | None, requires_grad: bool) -> Tensor | None:
    return None if tensor is None else tensor.detach().requires_grad_(requires_grad)


def _autocast_now(device_type: str) -> dict | None:
    if not torch.amp.is_autocast_available(device_type):
        return None
    return {
        'device_type': device_type,
        'enabled': torch.is_autocast_enabled(device_type),
        'dtype': torch.get_autocast_dtype(device_type),
    }

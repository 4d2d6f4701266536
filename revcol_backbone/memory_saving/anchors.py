"""What a memory-saving forward pass keeps, so that undoing the rest stays as exact as training.

Undoing a shortcut divides by alpha, and with it the errors of all that goes into it: an error in
one level comes back in its neighbors, divided by alpha each time. How large it gets is predicted
from the alphas alone. With J for how strongly a level answers to an error in a neighbor, the mean
square of a channel's error, counted in roundings of a feature, is

    V[l,i-1] = (1 + V[l,i] + J^2 mean(V[l-1,i]) + J^2 mean(V[l+1,i-1])) / alpha[l,i]^2

and 0 for what was kept. Channels are kept as needed for the sum of all mean V between two anchors
not to exceed a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from revcol_backbone.shortcut import ALPHA_INIT, ALPHA_MIN

# The error that may be spent between two anchors, in roundings. Fitted to networks of 2 to 8
# columns and 16 channels or more, in float32 and with bfloat16 weights: for 60 draws of alphas,
# some of them mixtures, the error of the whole gradient stays below 7 times that of plain
# training. With a quarter more to spend it comes close to 10 times. More columns have more
# gradients without this error.
ROUNDINGS_PER_COLUMN, MOST_ROUNDINGS = 12.0, 100.0
NEIGHBOR_RESPONSE = 0.7
LARGEST_LIMIT = 8  # of a channel, in budgets; what is spent is the mean over channels


@dataclass(frozen=True)
class KeptLevel:
    """What is kept of one level.

    Args:
        channels: The channels that are kept, on the host; ``None`` for all.
        dim: Their dimension, counted from the last: an alpha may have fewer than its level.
    """

    channels: Tensor | None = None
    dim: int = -1

    @property
    def is_whole(self) -> bool:
        """Whether all channels are kept."""
        return self.channels is None

    def take(self, level: Tensor) -> Tensor:
        """The kept part of a level."""
        if self.channels is None:
            return level
        return level.index_select(self.dim, self.channels.to(level.device))

    def restore(self, level: Tensor, kept: Tensor) -> Tensor:
        """The level with the kept part in its place; writes into ``level``."""
        if self.channels is None:
            return kept
        return level.index_copy_(self.dim, self.channels.to(level.device), kept)


Undone = tuple[np.ndarray, KeptLevel | None]  # V of each channel, and what is kept


class AlphaReading:
    """The alphas of a network on the host, asked for early and waited for late.

    On a GPU the copy is queued behind the work of the step before; work queued after it runs while
    the host waits for it, so that the GPU never does.

    Args:
        alphas: The shortcut parameters of every column.
    """

    def __init__(self, alphas: Sequence[Sequence[Tensor]]) -> None:
        self._sizes = [[alpha.numel() for alpha in column] for column in alphas]
        flat = [alpha.detach().reshape(-1) for column in alphas for alpha in column]
        self._values, self._event = None, None
        if not flat or flat[0].device.type == 'meta':
            return
        self._values = torch.cat(flat).float()
        if self._values.device.type == 'cuda':
            on_host = torch.empty(self._values.shape, pin_memory=True)
            self._values = on_host.copy_(self._values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def get(self) -> list[list[np.ndarray]]:
        """The size of every alpha, as vectors; without data (on the meta device) as initialized."""
        if self._event is not None:
            self._event.synchronize()
        if self._values is None:
            return [
                [np.full(size, ALPHA_INIT, np.float32) for size in sizes] for sizes in self._sizes
            ]
        values = np.maximum(np.abs(self._values.cpu().numpy()), ALPHA_MIN)
        result = []
        for sizes in self._sizes:
            ends = np.cumsum(sizes)
            result.append(np.split(values[: ends[-1]], ends[:-1]))
            values = values[ends[-1] :]
        return result


def choose_kept(
    alphas: Sequence[Sequence[np.ndarray]],
    shapes: Sequence[Sequence[Sequence[int]]],
    anchor_every: int,
    first: int = 0,
    also: Collection[tuple[int, int]] = (),
) -> dict[tuple[int, int], KeptLevel]:
    """Choose what to keep of consecutive columns.

    Kept whole are the last column, every ``anchor_every``-th one, levels that the next column does
    not have, and, where several columns are undone in turn, the last but one level of the first of
    them, which stops errors from going round between the levels below and above it. Of the others
    those channels are kept without which the predicted error exceeds the budget.

    Args:
        alphas: For each column the bounded sizes of its alphas, as vectors.
        shapes: The shapes of these alphas.
        anchor_every: Largest distance of columns that are kept whole; 0 keeps the last one only,
            whatever that does to the error.
        first: Position of the first of these columns in the network.
        also: (position, level) that are kept whole for another reason.

    Returns:
        For each (position, level) of which anything is kept, what that is.
    """
    last = len(alphas) - 1
    kept = {(first + last, level): KeptLevel() for level in range(len(alphas[last]))}
    variances = [np.zeros_like(alpha) for alpha in alphas[last]]
    full_budget = min(ROUNDINGS_PER_COLUMN * len(alphas), MOST_ROUNDINGS) ** 2
    budget, follows_anchor = full_budget, True
    for column in range(last - 1, -1, -1):
        count, after = len(alphas[column]), alphas[column + 1]
        whole = {level for level in range(count) if (first + column, level) in also}
        whole |= set(range(len(after), count))
        to_undo = min(column + 1, (first + column + 1) % anchor_every) if anchor_every else 0
        if anchor_every and to_undo == 0:
            whole = set(range(count))
        elif to_undo >= 2 and follows_anchor and count > 2:
            whole.add(count - 2)
        undo = partial(_undo, after, shapes[column + 1], variances, whole, count)
        found = undo(np.inf)
        if anchor_every and not _total(found) <= budget:
            found = _undo_within(budget, undo, count)
        kept |= {(first + column, level): k for level, (_, k) in enumerate(found) if k is not None}
        variances = [variance for variance, _ in found]
        follows_anchor = all(k is not None and k.is_whole for _, k in found)
        budget = full_budget if follows_anchor else budget - _total(found)
    return dict(sorted(kept.items()))


def _undo_within(budget: float, undo: Callable[[float], list[Undone]], count: int) -> list[Undone]:
    """Undo with the largest limit of a channel's V, and so the least kept, that obeys a budget."""
    low, high = budget / count, LARGEST_LIMIT * budget
    best = undo(low)
    for _ in range(4):
        middle = (low * high) ** 0.5
        found = undo(middle)
        if _total(found) <= budget:
            low, best = middle, found
        else:
            high = middle
    return best


def _undo(
    alphas: Sequence[np.ndarray],
    shapes: Sequence[Sequence[int]],
    variances: Sequence[np.ndarray],
    whole: set[int],
    count: int,
    limit: float,
) -> list[Undone]:
    """Per level of the column before: V of each channel, and what is kept for V to obey a limit.

    Args:
        alphas: Those of a column.
        shapes: Their shapes.
        variances: V of that column.
        whole: Levels of the column before that are kept whole.
        count: Number of its levels.
        limit: Largest V of a channel; one with more is kept.
    """
    found: list = [None] * count
    above = 0.0
    for level in reversed(range(count)):
        kept: KeptLevel | None = KeptLevel()
        variance: np.ndarray = np.zeros(1)
        if level not in whole:
            below = variances[level - 1].mean() if level else 0.0
            entering = 1 + variances[level] + NEIGHBOR_RESPONSE**2 * (below + above)
            variance = entering * np.maximum(1, alphas[level].astype(np.float64) ** -2)
            # A variance that is not a number counts as too large.
            kept = _keep(~(variance <= limit), shapes[level])
            if kept is not None:
                variance = (
                    np.where(variance <= limit, variance, 0) if not kept.is_whole else np.zeros(1)
                )
        found[level] = (np.asarray(variance), kept)
        above = found[level][0].mean()
    return found


def _keep(is_kept: np.ndarray, shape: Sequence[int]) -> KeptLevel | None:
    if not is_kept.any():
        return None
    dims = [dim - len(shape) for dim, size in enumerate(shape) if size > 1]
    if is_kept.all() or len(dims) != 1:
        return KeptLevel()
    return KeptLevel(torch.from_numpy(np.flatnonzero(is_kept)), dims[0])


def _total(found: Sequence[Undone]) -> float:
    return sum(variance.mean() for variance, _ in found)

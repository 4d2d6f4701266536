"""Where the collision weights w' start."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

MEAN = 'mean'
# Chosen by the measurements of docs/ic_networks.md.
DEFAULT_START: float | str = 0.0


def check_start(start: float | str) -> float | str:
    """Return a start of w', if it is one.

    Raises:
        ValueError: It is neither a number nor ``'mean'``.
    """
    is_number = isinstance(start, numbers.Real) and not isinstance(start, bool)
    if start == MEAN or is_number:
        return start
    raise ValueError(
        f"collision_start={start!r} is not allowed; give a number, such as 0 or the paper's 1, or "
        "'mean' for the mean of each output channel's weights."
    )


@torch.no_grad()
def fill_start(collision_weight: Tensor, start: float | str, weight: Tensor) -> None:
    """Set w' to its start, in place.

    Args:
        collision_weight: w' (C_out).
        start: A number, or ``'mean'``: the mean of each output channel's weights, with which the
            term is active about half of the time.
        weight: The weights of the unit (C_out, ...).
    """
    if start == MEAN:
        collision_weight.copy_(weight.flatten(1).mean(1))
    else:
        collision_weight.fill_(start)

"""The collision parameters of a unit, and where the collision weights w' start."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor, nn

MEAN = 'mean'
# Chosen by the measurements of docs/ic_networks.md.
DEFAULT_START: float | str = 0.0


class CollisionParameters(nn.Module):
    """What turns a layer with ``weight`` into a unit; placed before the layer as a base."""

    weight: Tensor
    bias: Tensor | None
    collision_weight: nn.Parameter
    collision_bias: nn.Parameter
    collision_gain: nn.Parameter | None

    def reset_parameters(self) -> None:
        """Draw the weights as the layer does, and set the collision parameters to theirs."""
        super().reset_parameters()  # type: ignore[misc]  # the layer's
        if hasattr(self, 'collision_start'):
            self.reset_collision()

    def reset_collision(self) -> None:
        """Set w' to its start, b1 and the gain to 0; the weights stay."""
        fill_start(self.collision_weight, self.collision_start, self.weight)
        nn.init.zeros_(self.collision_bias)
        if self.collision_gain is not None:
            nn.init.zeros_(self.collision_gain)

    def offset(self) -> Tensor:
        """b1 - b2 (C_out)."""
        return self.collision_bias if self.bias is None else self.collision_bias - self.bias

    def _add_collision(self, start: float | str, with_gain: bool) -> None:
        self.collision_start = check_start(start)
        names = ['collision_weight', 'collision_bias'] + ['collision_gain'] * with_gain
        self.register_parameter('collision_gain', None)
        for name in names:
            self.register_parameter(name, nn.Parameter(self.weight.new_zeros(len(self.weight))))
        self.reset_collision()


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
    if isinstance(start, str):
        collision_weight.copy_(weight.flatten(1).mean(1))
    else:
        collision_weight.fill_(start)

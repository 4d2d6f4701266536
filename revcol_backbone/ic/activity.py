"""How alive the collision terms of a model are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from revcol_backbone.ic.conv import ICConv2d
from revcol_backbone.ic.windows import sum_channels, sum_windows


@torch.no_grad()
def measure_active_shares(model: nn.Module, run: Callable[[], object]) -> dict[str, float]:
    """Measure in which share of its outputs the collision term of each unit is above 0.

    A term that is 0 nearly everywhere adds nothing and gets no gradient.

    Args:
        model: A model with :class:`ICConv2d`.
        run: Runs the model on the data to measure with, in the mode to measure in.

    Returns:
        The shares, 0 to 1, by the names of the units that ran, in the model's order.

    Raises:
        ValueError: The model has no such unit.
    """
    units = {name: unit for name, unit in model.named_modules() if isinstance(unit, ICConv2d)}
    if not units:
        raise ValueError(
            f'{type(model).__name__} has no ICConv2d; replace_convolutions makes them.'
        )
    active, total = dict.fromkeys(units, 0), dict.fromkeys(units, 0)

    def count(name: str) -> Callable:
        def hook(unit: ICConv2d, inputs: tuple) -> None:
            x = inputs[0]
            u = unit._conv_forward(x, unit.weight, None)
            sums = sum_windows(sum_channels(x, unit.groups), unit)
            sums = sums.repeat_interleave(unit.out_channels // unit.groups, 1)
            weight, bias = (
                each.view(-1, 1, 1) for each in (unit.collision_weight, unit.collision_bias)
            )
            is_active = u - weight * sums + bias > 0
            active[name] += int(is_active.sum())
            total[name] += is_active.numel()

        return hook

    handles = [unit.register_forward_pre_hook(count(name)) for name, unit in units.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return {name: active[name] / total[name] for name in units if total[name]}

"""Turning the convolutions of any PyTorch model into those of IC networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from revcol_backbone.ic.conv import ICConv2d
from revcol_backbone.ic.start import DEFAULT_START, check_start

Choice = Callable[[str, nn.Conv2d], bool]


def is_3x3(name: str, conv: nn.Conv2d) -> bool:
    """Choose the 3x3 convolutions: one in a ResNet's bottleneck, two in its basic block."""
    return conv.kernel_size == (3, 3)


def replace_convolutions(
    model: nn.Module,
    where: Choice = is_3x3,
    *,
    collision_start: float | str = DEFAULT_START,
    collision_gain: bool = False,
) -> list[str]:
    """Replace convolutions by :class:`ICConv2d`, in place; all of them or none.

    The new layers take over the parameters themselves, so that optimizers keep theirs. Layers that
    are ``nn.Conv2d`` only by inheritance compute something else and are never chosen.

    Args:
        model: Any module that contains ``nn.Conv2d``.
        where: Called with a convolution's name in the model and the convolution; says whether to
            replace it. Default: those of kernel size 3x3.
        collision_start, collision_gain: As of :class:`ICConv2d`.

    Returns:
        The names of what was replaced, in the model's order.

    Raises:
        ValueError: The model contains no ``nn.Conv2d`` or ``where`` chooses none, a chosen one has
            hooks, which would be lost, or an argument is out of range. Nothing was changed.
    """
    check_start(collision_start)
    if type(model) is nn.Conv2d:
        raise ValueError(
            'replace_convolutions got a single nn.Conv2d, which it cannot replace in place; call '
            'ICConv2d.from_conv.'
        )
    candidates = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if type(module) is nn.Conv2d
    }
    chosen = {name: conv for name, conv in candidates.items() if where(name, conv)}
    if not chosen:
        found = f'{len(candidates)} nn.Conv2d, none of which `where` chooses'
        raise ValueError(
            f'replace_convolutions found {found if candidates else "no nn.Conv2d"} in '
            f'{type(model).__name__}; give a model with convolutions to replace.'
        )
    for name, conv in chosen.items():
        if _has_hooks(conv):
            raise ValueError(
                f'{name} has hooks, which would be lost; remove them before replace_convolutions.'
            )
    make = partial(
        ICConv2d.from_conv, collision_start=collision_start, collision_gain=collision_gain
    )
    # A convolution that stands in several places stays one.
    layers = {conv: make(conv) for conv in set(chosen.values())}
    for name, conv in chosen.items():
        parent, _, own = name.rpartition('.')
        setattr(model.get_submodule(parent), own, layers[conv])
    return list(chosen)


def _has_hooks(module: nn.Module) -> bool:
    return any(
        bool(getattr(module, name))
        for name in (
            '_forward_hooks',
            '_forward_pre_hooks',
            '_backward_hooks',
            '_backward_pre_hooks',
            '_state_dict_hooks',
            '_load_state_dict_pre_hooks',
        )
    )

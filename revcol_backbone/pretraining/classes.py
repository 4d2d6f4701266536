"""How many classes a classifier tells apart."""

from __future__ import annotations

from torch import nn


def number_of_classes(model: nn.Module) -> int | None:
    """The classes of a classifier of this project or of mmpretrain; ``None`` if it does not say."""
    for part in (model, getattr(model, 'student', None), getattr(model, 'head', None)):
        if number := getattr(part, 'num_classes', None):
            return number
    return None

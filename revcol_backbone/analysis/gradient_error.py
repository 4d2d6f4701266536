"""Rounding errors of a training step's gradient, plain and memory-saving, against float64."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor

from revcol_backbone.revcol import RevCol


def gradient_errors(
    model: RevCol, image: Tensor, dtype: torch.dtype, autocast: bool = False
) -> tuple[float, float]:
    """Measure the relative error of the whole gradient in a precision.

    The loss is the sum of the mean squares of the outputs, each divided by its own value, so that
    no level dominates. The gradient that counts as exact is plain training's in float64, with the
    weights as they are in that precision.

    Args:
        model: A network; it stays as it is.
        image: Images of shape (B, 3, H, W).
        dtype: Precision of the weights and the image, or of autocast.
        autocast: Leave weights and image in float32 and compute under autocast.

    Returns:
        Errors of plain training and of ``save_memory=True``, ||g - exact|| / ||exact||.
    """
    stored = torch.float32 if autocast else dtype
    rounded = copy.deepcopy(model).to(stored)
    rounded.save_memory = False
    expected = _gradient(copy.deepcopy(rounded).double(), image.to(stored).double(), None)
    errors = []
    for save_memory in (False, True):
        rounded.save_memory = save_memory
        found = _gradient(rounded, image.to(stored), dtype if autocast else None)
        errors.append(((found - expected).norm() / expected.norm()).item())
    return errors[0], errors[1]


def _gradient(model: RevCol, image: Tensor, autocast: torch.dtype | None) -> Tensor:
    model.zero_grad()
    with torch.autocast(image.device.type, dtype=autocast, enabled=autocast is not None):
        outputs = model(image)
    squares = [output.double().square().mean() for output in outputs]
    sum(square / square.detach() for square in squares).backward()
    return torch.cat(
        [cast(Tensor, parameter.grad).flatten().double() for parameter in model.parameters()]
    )

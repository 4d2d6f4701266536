"""The compound loss of intermediate supervision (paper, section 2.3, equation 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

PICTURE_WEIGHT = 3.0
LABEL_WEIGHT = 0.7
PICTURE_RANGE = (0.01, 0.99)


def compound_loss(
    logits: Sequence[Tensor],
    pictures: Sequence[Tensor],
    labels: Tensor,
    picture: Tensor,
    picture_weight: float = PICTURE_WEIGHT,
    label_weight: float = LABEL_WEIGHT,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Sum the losses of all supervised columns.

    Of n decoders and n + 1 classifiers, the i-th (from 0) weighs ``picture_weight * (1 - i / n)``
    and ``label_weight * (i + 1) / (n + 1)``; the last classifier weighs 1. Early columns have to
    keep the picture, late ones to know the class.

    Args:
        logits: Of each classifier, (B, classes), the last column's last.
        pictures: Of each decoder the logits of the picture, (B, 3, H, W); none without
            intermediate supervision.
        labels: Classes, int64 of shape (B,), or their probabilities, (B, classes).
        picture: What the decoders have to rebuild, (B, 3, H, W) in [0, 1], see
            :func:`picture_target`; not used without decoders.
        picture_weight: Weight of the first decoder. Default 3.
        label_weight: Weight that the classifiers before the last rise to. Default 0.7.
        label_smoothing: Share of the probability that is spread over all classes. Default 0.

    Returns:
        The loss, and its parts: one for each supervised column, which sum up to it.
    """
    terms = loss_terms(
        logits, pictures, labels, picture, picture_weight, label_weight, label_smoothing
    )
    parts = [terms[f'loss_label{index}'] for index in range(len(logits))]
    for index in range(len(pictures)):
        parts[index] = parts[index] + terms[f'loss_picture{index}']
    return cast(Tensor, sum(parts)), tuple(parts)


def loss_terms(
    logits: Sequence[Tensor],
    pictures: Sequence[Tensor],
    labels: Tensor,
    picture: Tensor,
    picture_weight: float = PICTURE_WEIGHT,
    label_weight: float = LABEL_WEIGHT,
    label_smoothing: float = 0.0,
) -> dict[str, Tensor]:
    """Compute every weighted term of :func:`compound_loss`, which has the same arguments.

    Returns:
        ``loss_label0``, ``loss_label1``, ... of the classifiers, and ``loss_picture0``, ... of the
        decoders: names that mmengine sums up and logs each.

    Raises:
        ValueError: The numbers of classifiers and decoders do not go together.
    """
    decoders, classifiers = len(pictures), len(logits)
    if decoders not in (0, classifiers - 1):
        raise ValueError(
            f'{classifiers} classifiers and {decoders} decoders were given; give one decoder for '
            'every classifier but the last, or none.'
        )
    weights = [label_weight * (index + 1) / classifiers for index in range(classifiers - 1)] + [1.0]
    terms = {
        f'loss_label{index}': weight
        * F.cross_entropy(logits[index], labels, label_smoothing=label_smoothing)
        for index, weight in enumerate(weights)
    }
    for index, rebuilt in enumerate(pictures):
        weight = picture_weight * (1 - index / decoders)
        terms[f'loss_picture{index}'] = weight * F.binary_cross_entropy_with_logits(
            rebuilt, picture
        )
    return terms


def picture_target(inputs: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn a normalized network input, mixed as it is, into the decoders' target.

    Args:
        inputs: Images of shape (B, 3, H, W).
        mean: What was subtracted, (3, 1, 1), in units of a picture in [0, 1].
        std: What was divided by, likewise.

    Returns:
        The picture, clamped to [0.01, 0.99].
    """
    with torch.no_grad():
        return (inputs * std + mean).clamp(*PICTURE_RANGE)

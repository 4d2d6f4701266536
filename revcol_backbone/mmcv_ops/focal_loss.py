"""Focal loss (Lin et al., 2017), sigmoid and softmax, as in ``mmcv._ext``.

mmcv's compiled operators need a GPU; these run on every device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from revcol_backbone.mmcv_ops.precision import at_least_float32

SMALLEST = torch.finfo(torch.float32).tiny  # keeps logarithms finite, as in mmcv


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every sample and class into ``output``.

    Args:
        input: (N, C) logits.
        target: (N,) int64 classes; a number outside [0, C) is background.
        weight: (C,) factor by target class (background has 1), or empty.
        output: (N, C), written.
        gamma: Exponent that lowers the loss of easy samples.
        alpha: Weight of positives; negatives have 1 - alpha.
    """
    logits, class_weight = at_least_float32(input, weight)
    # Not 1 - p, which is 0 in float32 from a logit of 17 on.
    p, q = logits.sigmoid(), (-logits).sigmoid()
    positive = -alpha * q**gamma * _log(p)
    negative = -(1 - alpha) * p**gamma * _log(q)
    loss = torch.where(_is_target(target, logits), positive, negative)
    output.copy_(loss * _sample_weight(class_weight, target)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss's derivative by ``input`` into ``grad_input`` (N, C)."""
    logits, class_weight = at_least_float32(input, weight)
    p, q = logits.sigmoid(), (-logits).sigmoid()
    positive = -alpha * q**gamma * (q - gamma * p * _log(p))
    negative = -(1 - alpha) * p**gamma * (gamma * q * _log(q) - p)
    slope = torch.where(_is_target(target, logits), positive, negative)
    grad_input.copy_(slope * _sample_weight(class_weight, target)[:, None])


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every sample into ``output``.

    Args:
        softmax: (N, C) probabilities.
        target: (N,) int64 classes; a negative number is ignored.
        weight: (C,) factor by target class, or empty.
        output: (N,), written.
        gamma: Exponent that lowers the loss of easy samples.
        alpha: Weight of all samples.
    """
    probability, class_weight = at_least_float32(softmax, weight)
    p = _target_probability(probability, target)
    loss = -alpha * (1 - p) ** gamma * _log(p)
    output.copy_(torch.where(target >= 0, loss * _sample_weight(class_weight, target), 0))


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the loss's derivative by the logits into ``grad_input`` (N, C).

    ``buff`` (N,) receives the derivative by the target's logarithmic probability.
    """
    probability, class_weight = at_least_float32(softmax, weight)
    p = _target_probability(probability, target)
    # At p = 1 and gamma < 1 the power is infinite, and its product with log(1) undefined.
    q = (1 - p).clamp(min=SMALLEST)
    slope = alpha * (gamma * q ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma)
    slope = torch.where(target >= 0, slope * _sample_weight(class_weight, target), 0)
    buff.copy_(slope)
    is_target = _is_target(target, probability).to(probability.dtype)
    grad_input.copy_(slope[:, None] * (is_target - probability))


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=SMALLEST).log()


def _is_target(target: Tensor, scores: Tensor) -> Tensor:
    return target[:, None] == torch.arange(scores.size(1), device=scores.device)


def _target_probability(probability: Tensor, target: Tensor) -> Tensor:
    return probability.gather(1, target.clamp(min=0)[:, None]).squeeze(1)


def _sample_weight(class_weight: Tensor, target: Tensor) -> Tensor:
    if class_weight.numel() == 0:
        return class_weight.new_ones(target.shape)
    known = F.pad(class_weight, (0, 1), value=1.0)
    return known[torch.where((target >= 0) & (target < class_weight.numel()), target, -1)]

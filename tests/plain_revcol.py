"""RevCol written down a second time, straight from the paper's equations, as a reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_revcol(weights: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """The four levels of the last column, for a state dict in the published layout."""
    weight, bias = weights['stem.0.weight'], weights['stem.0.bias']
    stem = _norm(weights, 'stem.1', F.conv2d(image, weight, bias, stride=4))
    column, levels = 0, None
    while f'subnet{column}.alpha0' in weights:
        levels = _column(weights, f'subnet{column}', stem, levels)
        column += 1
    return levels


def _column(
    weights: dict[str, Tensor], name: str, stem: Tensor, before: list[Tensor] | None
) -> list[Tensor]:
    levels, below = [], stem
    for level in range(4):
        x = _fusion(weights, f'{name}.level{level}.fusion', level, below, before)
        block = 0
        while f'{name}.level{level}.blocks.{block}.gamma' in weights:
            x = _block(weights, f'{name}.level{level}.blocks.{block}', x)
            block += 1
        if before is not None:
            alpha = weights[f'{name}.alpha{level}']
            sign = torch.where(alpha < 0, -1.0, 1.0).to(alpha)
            x = x + sign * alpha.abs().clamp(min=1e-3) * before[level]
        levels.append(x)
        below = x
    return levels


def _fusion(
    weights: dict[str, Tensor], name: str, level: int, below: Tensor, before: list[Tensor] | None
) -> Tensor:
    x = below
    if level > 0:
        weight, bias = weights[f'{name}.down.0.weight'], weights[f'{name}.down.0.bias']
        x = _norm(weights, f'{name}.down.1', F.conv2d(below, weight, bias, stride=2))
    height, width = x.shape[-2:]
    for branch, source in (('up', level + 1), ('up2', 3)):
        key = f'{name}.{branch}.channel_reschedule'
        if f'{key}.0.weight' in weights:
            linear = weights[f'{key}.0.weight'][:, :, None, None]
            up = F.conv2d(before[source], linear, weights[f'{key}.0.bias'])
            up = _norm(weights, f'{key}.1', up)
            rows = torch.arange(height) * up.shape[2] // height
            columns = torch.arange(width) * up.shape[3] // width
            x = x + up[:, :, rows][:, :, :, columns]
    return x


def _block(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = weights[f'{name}.dwconv.weight']
    branch = F.conv2d(
        F.pad(x, [weight.shape[-1] // 2] * 4),
        weight,
        weights[f'{name}.dwconv.bias'],
        groups=len(weight),
    )
    branch = _norm(weights, f'{name}.norm', branch)
    for layer in ('pwconv1', 'pwconv2'):
        matrix = weights[f'{name}.{layer}.weight']
        branch = torch.einsum('bchw,dc->bdhw', branch, matrix)
        branch = branch + weights[f'{name}.{layer}.bias'][:, None, None]
        if layer == 'pwconv1':
            branch = branch * (1 + torch.erf(branch / 2**0.5)) / 2
    return x + weights[f'{name}.gamma'][:, None, None] * branch


def _norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean = x.mean(dim=1, keepdim=True)
    variance = (x - mean).pow(2).mean(dim=1, keepdim=True)
    scale, shift = weights[f'{name}.weight'], weights[f'{name}.bias']
    normal = (x - mean) / torch.sqrt(variance + 1e-6)
    return normal * scale[:, None, None] + shift[:, None, None]

"""Convolutions with normalization, under the names that the published state dicts use."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

NORMALIZATIONS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, norm_cfg: dict | None
) -> nn.Sequential:
    """Build a convolution without bias (``conv``), its normalization (``bn``) and a ReLU."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
    return nn.Sequential(
        OrderedDict(
            conv=conv, bn=build_norm(norm_cfg, out_channels), activate=nn.ReLU(inplace=True)
        )
    )


def build_norm(norm_cfg: dict | None, channels: int) -> nn.Module:
    """Build a batch normalization.

    Args:
        norm_cfg: As in mmdet: ``type`` is ``'BN'`` or ``'SyncBN'``, ``requires_grad`` says whether
            its weight and bias are trained (default yes), anything else goes to the layer. ``None``
            means ``dict(type='BN')``.
        channels: C.

    Raises:
        ValueError: ``type`` is another normalization.
    """
    settings = dict(norm_cfg or {})
    kind = settings.pop('type', 'BN')
    requires_grad = settings.pop('requires_grad', True)
    if kind not in NORMALIZATIONS:
        raise ValueError(
            f'norm_cfg type {kind!r} is not allowed in an involution network, whose published '
            f'weights hold batch normalization; give one of {", ".join(map(repr, NORMALIZATIONS))}.'
        )
    norm = NORMALIZATIONS[kind](channels, **settings)
    return norm.requires_grad_(requires_grad)

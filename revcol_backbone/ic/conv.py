"""The convolution of IC networks."""

from __future__ import annotations

from typing import Any, Literal

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from revcol_backbone.ic.collision import collide
from revcol_backbone.ic.start import DEFAULT_START, CollisionParameters
from revcol_backbone.ic.windows import sum_channels, sum_windows

PaddingMode = Literal['zeros', 'reflect', 'replicate', 'circular']


@MODELS.register_module()
class ICConv2d(CollisionParameters, nn.Conv2d):
    """A convolution with inter-layer collision, arXiv 2102.03495, in place of ``nn.Conv2d``.

    ``y = u + relu(u - w' s + b1) + b2``: u is the convolution, s the sum of each window over the
    channels of its group, b2 the ordinary ``bias``. In a config of mmdet or mmseg it is
    ``conv_cfg=dict(type='ICConv2d')``.

    Attributes:
        weight, bias: As of ``nn.Conv2d``.
        collision_weight: w' (out_channels).
        collision_bias: b1 (out_channels), 0 at the start.
        collision_gain: g (out_channels), 0 at the start, or ``None``.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device, dtype: As of ``nn.Conv2d``.
        collision_start: Where w' starts: a number, or ``'mean'`` for the mean of each output
            channel's weights.
        collision_gain: Whether to multiply the collision term by a gain for each channel, so that
            the layer starts as the ordinary convolution exactly. Not from the paper.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = 'zeros',
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        collision_start: float | str = DEFAULT_START,
        collision_gain: bool = False,
    ) -> None:
        _check_sizes(in_channels, out_channels, kernel_size, groups)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self._add_collision(collision_start, collision_gain)

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        *,
        collision_start: float | str = DEFAULT_START,
        collision_gain: bool = False,
    ) -> ICConv2d:
        """Make one of an ordinary convolution; it takes over the convolution's own parameters.

        Args:
            conv: The convolution. Where its weight is frozen, so are the collision parameters.
            collision_start, collision_gain: As of the class.
        """
        layer = cls(**sizes_of(conv), bias=conv.bias is not None, device='meta')
        layer.weight, layer.bias = conv.weight, conv.bias
        layer._add_collision(collision_start, collision_gain)
        for name in ('collision_weight', 'collision_bias', 'collision_gain'):
            if (parameter := getattr(layer, name)) is not None:
                parameter.requires_grad_(conv.weight.requires_grad)
        return layer.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, in_channels, H, W) or (in_channels, H, W), in any memory format.

        Returns:
            (B, out_channels, H', W') or (out_channels, H', W') as of ``nn.Conv2d``.

        Raises:
            ValueError: The input has another number of channels or dimensions.
        """
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ValueError(
                f'ICConv2d got an input of shape {tuple(x.shape)}; it takes (batch, '
                f'{self.in_channels}, height, width) or ({self.in_channels}, height, width).'
            )
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        # Before the convolution, so that its gradient of the input is the one that is added to.
        channel_sums = sum_channels(x, self.groups)
        v = self._conv_forward(x, self.weight, self.bias)
        sums = sum_windows(channel_sums, self)
        return collide(v, sums, self.collision_weight, self.offset(), self.collision_gain)

    def extra_repr(self) -> str:
        gain = ', collision_gain=True' if self.collision_gain is not None else ''
        return f'{super().extra_repr()}, collision_start={self.collision_start}{gain}'


def sizes_of(conv: nn.Conv2d) -> dict[str, Any]:
    """The arguments that make a convolution of the same shape, without its bias."""
    names = ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding', 'dilation')
    return {name: getattr(conv, name) for name in (*names, 'groups', 'padding_mode')}


def _check_sizes(
    in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], groups: int
) -> None:
    for name, value in (('in_channels', in_channels), ('out_channels', out_channels)):
        if not _is_positive(value):
            raise ValueError(f'ICConv2d {name}={value!r} is not allowed; give a positive integer.')
    sides = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * 2
    if len(sides) != 2 or not all(map(_is_positive, sides)):
        raise ValueError(
            f'ICConv2d kernel_size={kernel_size!r} is not allowed; give a positive integer or two.'
        )
    if not _is_positive(groups) or in_channels % groups or out_channels % groups:
        raise ValueError(
            f'ICConv2d groups={groups!r} is not allowed with in_channels={in_channels} and '
            f'out_channels={out_channels}; give a number that divides both.'
        )


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0

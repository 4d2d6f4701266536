"""How involutions take the place of the 3x3 convolutions of a neck or head."""

from __future__ import annotations

from torch import nn

from revcol_backbone.involution.involution import Involution

KERNEL_SIZE = 7


class InvolutionOutputs:
    """Mixin for an FPN class: involutions on the outputs of the levels that have laterals.

    Both mmdet's and mmseg's FPN keep these 3x3 convolutions first in ``fpn_convs``.

    Args:
        args, kwargs: As in the FPN class, except ``act_cfg``.

    Raises:
        ValueError: ``act_cfg`` is given.
    """

    lateral_convs: nn.ModuleList
    fpn_convs: nn.ModuleList
    out_channels: int

    def __init__(self, *args, **kwargs) -> None:
        if kwargs.get('act_cfg') is not None:
            raise ValueError(
                f'{type(self).__name__} act_cfg={kwargs["act_cfg"]!r} is not allowed: its '
                'involutions have no activation after them; omit act_cfg.'
            )
        super().__init__(*args, **kwargs)
        for level in range(len(self.lateral_convs)):
            self.fpn_convs[level] = Involution(
                self.out_channels, KERNEL_SIZE, norm_cfg=kwargs.get('norm_cfg')
            )


def involution_relu(
    channels: int, kernel_size: int = KERNEL_SIZE, norm_cfg: dict | None = None
) -> nn.Sequential:
    """Build an involution followed by a ReLU; arguments as in :class:`.Involution`."""
    return nn.Sequential(
        Involution(channels, kernel_size, norm_cfg=norm_cfg), nn.ReLU(inplace=True)
    )


def check_widths(head: str, name: str, in_channels: int, out_channels: int) -> None:
    """Refuse a head that would change the number of channels, which an involution keeps.

    Args:
        head: The head's class, for the message.
        name: The argument that sets ``out_channels``.
        in_channels: Channels of the head's input.
        out_channels: Channels of its convolutions.

    Raises:
        ValueError: The numbers differ.
    """
    if in_channels != out_channels:
        raise ValueError(
            f'{head} {name}={out_channels} is not allowed: an involution keeps the number of '
            f'channels; give in_channels={in_channels}.'
        )

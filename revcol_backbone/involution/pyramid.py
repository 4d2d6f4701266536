"""What the involution FPNs of mmdet and mmseg share."""

from __future__ import annotations

from revcol_backbone.involution.involution import Involution

KERNEL_SIZE = 7


class InvolutionOutputs:
    """Put before an FPN class, replaces the 3x3 convolutions of the pyramid's own levels."""

    def __init__(self, *args, **kwargs) -> None:
        if kwargs.get('act_cfg') is not None:
            raise ValueError(
                f'{type(self).__name__} act_cfg={kwargs["act_cfg"]!r} is not allowed: its '
                'involutions have no activation after them; leave act_cfg out.'
            )
        super().__init__(*args, **kwargs)
        for level in range(len(self.lateral_convs)):
            self.fpn_convs[level] = Involution(
                self.out_channels, KERNEL_SIZE, norm_cfg=kwargs.get('norm_cfg')
            )

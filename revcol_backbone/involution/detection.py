"""mmdet's FPN, RPN head and mask head with involutions for their 3x3 convolutions.

Importing this module registers them in mmdet. Everything but the convolutions and their
initialization is mmdet's; the state dicts are those of the published detectors.
"""

from __future__ import annotations

from mmdet.models.dense_heads import RPNHead
from mmdet.models.necks import FPN
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from torch import nn

from revcol_backbone.involution.involution import Involution
from revcol_backbone.involution.replacement import (
    KERNEL_SIZE,
    InvolutionOutputs,
    check_widths,
    involution_relu,
)

# Of the head's own convolutions by name: those of its involutions have the layer's own.
RPN_INITIALIZATION = dict(
    type='Normal', std=0.01, override=[dict(name='rpn_cls'), dict(name='rpn_reg')]
)


@MODELS.register_module()
class InvolutionFPN(InvolutionOutputs, FPN):
    """mmdet's FPN with 7x7 involutions on its outputs (arXiv 2103.06255, section 4.2).

    The lateral 1x1 convolutions and the 3x3 convolutions of extra levels stay.

    Args:
        args, kwargs: As in mmdet's ``FPN``, except ``act_cfg``: an involution has no activation
            after it. ``norm_cfg`` also sets the normalization in the involutions.

    Raises:
        ValueError: ``act_cfg`` is given.
    """


@MODELS.register_module()
class InvolutionRPNHead(RPNHead):
    """mmdet's RPN head with a 7x7 involution for each 3x3 convolution.

    The initial weights are those of the release: Kaiming for the involutions, Normal(0.01) for the
    two convolutions behind them alone.

    Args:
        in_channels: Channels of the input, a multiple of 16.
        num_classes: As in mmdet's ``RPNHead``. Default 1.
        init_cfg: As in mmengine. Default as above.
        kwargs: As in mmdet's ``RPNHead``; ``feat_channels`` must equal ``in_channels``.

    Raises:
        ValueError: ``feat_channels`` is another number.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(in_channels, num_classes, init_cfg or RPN_INITIALIZATION, **kwargs)

    def _init_layers(self) -> None:
        check_widths(type(self).__name__, 'feat_channels', self.in_channels, self.feat_channels)
        super()._init_layers()
        if self.num_convs == 1:
            # mmdet's head applies the ReLU itself after a single convolution.
            self.rpn_conv: nn.Module = Involution(self.in_channels, KERNEL_SIZE)
        else:
            layers = [involution_relu(self.in_channels) for _ in range(self.num_convs)]
            self.rpn_conv = nn.Sequential(*layers)


@MODELS.register_module()
class InvolutionFCNMaskHead(FCNMaskHead):
    """mmdet's mask head with a 7x7 involution and a ReLU for each 3x3 convolution.

    Args:
        args, kwargs: As in mmdet's ``FCNMaskHead``; ``conv_kernel_size`` is that of the
            involutions (default 7), ``conv_out_channels`` must equal ``in_channels``.

    Raises:
        ValueError: ``conv_out_channels`` is another number.
    """

    def __init__(self, *args, conv_kernel_size: int = KERNEL_SIZE, **kwargs) -> None:
        super().__init__(*args, conv_kernel_size=conv_kernel_size, **kwargs)
        check_widths(
            type(self).__name__, 'conv_out_channels', self.in_channels, self.conv_out_channels
        )
        for index in range(self.num_convs):
            self.convs[index] = involution_relu(self.in_channels, conv_kernel_size, self.norm_cfg)

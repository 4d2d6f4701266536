"""mmdet's FPN, RPN head and mask head with involutions for their 3x3 convolutions.

Importing this module registers them in mmdet. Everything but the convolutions is mmdet's; the state
dicts are those of the published detectors.
"""

from __future__ import annotations

from mmdet.models.dense_heads import RPNHead
from mmdet.models.necks import FPN
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from torch import nn

from revcol_backbone.involution.involution import Involution
from revcol_backbone.involution.pyramid import KERNEL_SIZE, InvolutionOutputs


@MODELS.register_module()
class InvolutionFPN(InvolutionOutputs, FPN):
    """mmdet's FPN with 7x7 involutions on its outputs (arXiv 2103.06255, section 4.2).

    The lateral 1x1 convolutions and the 3x3 convolutions of extra levels stay.

    Args:
        args, kwargs: As of mmdet's ``FPN``; ``act_cfg`` must be left out, because an involution has
            no activation after it. ``norm_cfg`` also sets the normalization in the involutions.
    """


@MODELS.register_module()
class InvolutionRPNHead(RPNHead):
    """mmdet's RPN head with a 7x7 involution for each 3x3 convolution.

    Args:
        args, kwargs: As of mmdet's ``RPNHead``; ``feat_channels`` must equal ``in_channels``.

    Raises:
        ValueError: ``feat_channels`` is another number.
    """

    def _init_layers(self) -> None:
        _check_widths(type(self).__name__, 'feat_channels', self.in_channels, self.feat_channels)
        super()._init_layers()
        layers = [Involution(self.in_channels, KERNEL_SIZE) for _ in range(self.num_convs)]
        if self.num_convs == 1:
            (self.rpn_conv,) = layers
        else:
            self.rpn_conv = nn.Sequential(*map(_with_relu, layers))


@MODELS.register_module()
class InvolutionFCNMaskHead(FCNMaskHead):
    """mmdet's mask head with a 7x7 involution and a ReLU for each 3x3 convolution.

    Args:
        args, kwargs: As of mmdet's ``FCNMaskHead``; ``conv_kernel_size`` is that of the
            involutions (default 7), ``conv_out_channels`` must equal ``in_channels``.

    Raises:
        ValueError: ``conv_out_channels`` is another number.
    """

    def __init__(self, *args, conv_kernel_size: int = KERNEL_SIZE, **kwargs) -> None:
        super().__init__(*args, conv_kernel_size=conv_kernel_size, **kwargs)
        _check_widths(
            type(self).__name__, 'conv_out_channels', self.in_channels, self.conv_out_channels
        )
        for index in range(self.num_convs):
            layer = Involution(self.in_channels, conv_kernel_size, norm_cfg=self.norm_cfg)
            self.convs[index] = _with_relu(layer)


def _with_relu(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, nn.ReLU(inplace=True))


def _check_widths(head: str, name: str, in_channels: int, out_channels: int) -> None:
    if in_channels != out_channels:
        raise ValueError(
            f'{head} {name}={out_channels} is not allowed: an involution keeps the number of '
            f'channels; give in_channels={in_channels}.'
        )

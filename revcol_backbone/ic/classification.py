"""The IC-ResNet of mmpretrain; importing this module registers it there."""

from __future__ import annotations

from mmpretrain.models.backbones import ResNet
from mmpretrain.registry import MODELS

from revcol_backbone.ic.resnet import CollisionUnits


@MODELS.register_module()
class ICResNet(CollisionUnits, ResNet):
    """mmpretrain's ResNet 18, 34, 50, 101 or 152 with the units of IC networks (2102.03495)."""

    __doc__ += (CollisionUnits.__doc__ or '').partition('\n')[2]

"""The IC-ResNet of mmdet; importing this module registers it there."""

from __future__ import annotations

from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS

from revcol_backbone.ic.resnet import CollisionUnits


@MODELS.register_module()
class ICResNet(CollisionUnits, ResNet):
    """mmdet's ResNet 18, 34, 50, 101 or 152 with the units of IC networks, arXiv 2102.03495."""

    __doc__ += (CollisionUnits.__doc__ or '').partition('\n')[2]

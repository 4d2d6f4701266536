"""Involution (arXiv 2103.06255): the operator, the layer and the RedNet backbones.

Importing this package registers :class:`RedNet` at mmengine's root. The involution necks and heads
need mmdet or mmseg and are registered by importing :mod:`.detection` or :mod:`.segmentation`.
"""

from revcol_backbone.involution.involution import Involution
from revcol_backbone.involution.native import use_native
from revcol_backbone.involution.operator import involution, multiply_adds
from revcol_backbone.involution.rednet import RedNet

__all__ = ['Involution', 'RedNet', 'involution', 'multiply_adds', 'use_native']

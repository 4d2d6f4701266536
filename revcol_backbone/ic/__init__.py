"""IC networks (arXiv 2102.03495): the convolution, the dense layer and what turns models into them.

Importing this package registers :class:`ICConv2d` at mmengine's root. The ResNets need mmdet or
mmseg and are registered by importing :mod:`.detection` or :mod:`.segmentation`.
"""

from revcol_backbone.ic.activity import measure_active_shares
from revcol_backbone.ic.conv import ICConv2d
from revcol_backbone.ic.linear import ICLinear
from revcol_backbone.ic.replacement import is_3x3, replace_convolutions

__all__ = ['ICConv2d', 'ICLinear', 'is_3x3', 'measure_active_shares', 'replace_convolutions']

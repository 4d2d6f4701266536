"""Reversible Column Networks (RevCol, arXiv 2212.11696) for detection and segmentation.

Importing this package registers, at mmengine's root,

- :class:`RevCol`, the backbone: ``type='RevCol'``.
"""

from revcol_backbone.revcol import RevCol
from revcol_backbone.variants import VARIANTS, Architecture
from revcol_backbone.version import __version__

__all__ = ['VARIANTS', 'Architecture', 'RevCol', '__version__']

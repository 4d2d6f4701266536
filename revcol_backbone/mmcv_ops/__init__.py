"""The operators that mmcv-lite lacks (``mmcv._ext``), on torchvision's compiled kernels.

``enable`` makes ``import mmcv.ops`` work in this process; importing ``revcol_backbone`` calls it.
``install`` (``python -m revcol_backbone.mmcv_ops install``) does so for every process of the
interpreter, as ``mim test`` and ``import mmdet.models`` need. A compiled mmcv always wins.
"""

from revcol_backbone.mmcv_ops.finder import disable, enable
from revcol_backbone.mmcv_ops.installation import (
    InstallationError,
    Status,
    install,
    status,
    uninstall,
)

__all__ = ['InstallationError', 'Status', 'disable', 'enable', 'install', 'status', 'uninstall']

"""Makes ``mmcv.ops`` importable for the tests of this folder."""

from revcol_backbone import mmcv_ops

mmcv_ops.enable()

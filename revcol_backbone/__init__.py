"""Reversible Column Networks (RevCol, arXiv 2212.11696) for detection and segmentation.

Importing this package, as configs do by ``custom_imports``, has these effects, and no others:

- ``type='RevCol'`` (:class:`RevCol`), ``type='RevColViT'``, ``type='PortableAmpOptimWrapper'``,
  ``constructor='RevColLayerDecayOptimWrapperConstructor'``, the strategy
  ``type='RevColFSDPStrategy'`` and the hooks ``type='AtomicCheckpointHook'``,
  ``type='ColumnMonitorHook'``, ``type='ExactResumeHook'``, ``type='FineTunedCheckpointHook'``,
  ``type='HeartbeatHook'``, ``type='NativeTrainingHook'``, ``type='NonFiniteLossHook'``,
  ``type='SwitchToDeployHook'`` and ``type='TerminationHook'`` are registered at mmengine's root;
- mmengine's file backend ``backend='revcol_atomic'`` is registered;
- where mmcv comes without compiled operators, those of :mod:`revcol_backbone.mmcv_ops` are used in
  this process;
- mmengine opens ``_base_ = 'revcol_backbone::...'`` in this process
  (:mod:`revcol_backbone.engine.openmmlab_imports`);
- mmengine's own training checkpoints load under torch's weights-only protection
  (:func:`allow_mmengine_globals`).
"""

try:
    import mmengine  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "revcol_backbone needs mmengine: install 'revcol-backbone[det,mmcv-lite]' for MMDetection, "
        "'revcol-backbone[seg,mmcv-lite]' for MMSegmentation, 'revcol-backbone[detectron2]' for "
        "Detectron2, or 'revcol-backbone[det-onedl]' for the maintained forks"
    ) from error

from revcol_backbone import mmcv_ops
from revcol_backbone.checkpoints.pretrained import load_pretrained
from revcol_backbone.checkpoints.safe_globals import allow_mmengine_globals
from revcol_backbone.column import Column
from revcol_backbone.engine import openmmlab_imports
from revcol_backbone.engine.amp import PortableAmpOptimWrapper
from revcol_backbone.engine.checkpoint_hook import AtomicCheckpointHook
from revcol_backbone.engine.column_monitor import ColumnMonitorHook
from revcol_backbone.engine.exact_resume import ExactResumeHook
from revcol_backbone.engine.fsdp import RevColFSDPStrategy
from revcol_backbone.engine.heartbeat import HeartbeatHook
from revcol_backbone.engine.hooks import FineTunedCheckpointHook, SwitchToDeployHook
from revcol_backbone.engine.layer_decay import RevColLayerDecayOptimWrapperConstructor
from revcol_backbone.engine.native_training import NativeTrainingHook
from revcol_backbone.engine.non_finite_hook import NonFiniteLossHook
from revcol_backbone.engine.termination import TerminationHook
from revcol_backbone.native.training import train_natively
from revcol_backbone.revcol import RevCol
from revcol_backbone.reversible_columns import ReversibleColumns
from revcol_backbone.transformers.revcol_vit import RevColViT
from revcol_backbone.variants import VARIANTS, Architecture
from revcol_backbone.version import __version__

mmcv_ops.enable()
openmmlab_imports.enable()
allow_mmengine_globals()

__all__ = [
    'VARIANTS',
    'Architecture',
    'AtomicCheckpointHook',
    'Column',
    'ColumnMonitorHook',
    'ExactResumeHook',
    'FineTunedCheckpointHook',
    'HeartbeatHook',
    'NativeTrainingHook',
    'NonFiniteLossHook',
    'PortableAmpOptimWrapper',
    'RevCol',
    'RevColFSDPStrategy',
    'RevColLayerDecayOptimWrapperConstructor',
    'RevColViT',
    'ReversibleColumns',
    'SwitchToDeployHook',
    'TerminationHook',
    '__version__',
    'allow_mmengine_globals',
    'load_pretrained',
    'mmcv_ops',
    'train_natively',
]

"""What `--deterministic` meant when the published segmentors were trained."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class CudnnDeterminismHook(Hook):
    """Limit ``randomness=dict(deterministic=True)`` to cuDNN's choice of algorithms.

    mmcv 1.x set ``torch.backends.cudnn.deterministic`` and nothing else. mmengine also calls
    ``torch.use_deterministic_algorithms(True)``, under which a CUDA device refuses operators that
    have no deterministic implementation. UPerNet needs two of them: the gradient of adaptive
    average pooling and the cross entropy of label maps.
    """

    def before_run(self, runner: Any) -> None:
        """Allow the operators again; cuDNN stays deterministic."""
        torch.use_deterministic_algorithms(False)

"""Published classification files as checkpoints of mmengine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from revcol_backbone.checkpoints.reading import weights_entry


@HOOKS.register_module()
class PublishedWeightsHook(Hook):
    """Let ``mim test mmpretrain`` take the published classification files.

    They hold the weights under ``model`` or bare, possibly with ``module.`` before each key, where
    mmengine and its moving averages look for a ``state_dict``.
    """

    priority = 'HIGH'  # before a hook for moving averages looks for the weights

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the weights where mmengine looks for them."""
        if 'state_dict' not in checkpoint:
            entry = weights_entry(checkpoint, Path(runner._load_from or 'The checkpoint'))
            weights = checkpoint if entry is None else checkpoint[entry]
            checkpoint['state_dict'] = {
                key.removeprefix('module.'): value for key, value in weights.items()
            }

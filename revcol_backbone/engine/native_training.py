"""A hook for training RevCol's blocks by C++ functions."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from revcol_backbone.native.training import train_natively


@HOOKS.register_module()
class NativeTrainingHook(Hook):
    """Call :func:`~revcol_backbone.train_natively` for the length of a training.

    For training on CPUs in float32. Add it by ``custom_hooks=[dict(type='NativeTrainingHook')]``.
    """

    def before_train(self, runner: Any) -> None:
        """Compile the functions if that was not done before, and use them."""
        train_natively()

    def after_train(self, runner: Any) -> None:
        """Go back to PyTorch's operators."""
        train_natively(False)

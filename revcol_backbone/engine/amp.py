"""Mixed precision where there is an accelerator, float32 where there is none."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

import torch
from mmengine.device import (
    is_cuda_available,
    is_mlu_available,
    is_musa_available,
    is_npu_available,
)
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class PortableAmpOptimWrapper(AmpOptimWrapper):
    """mmengine's ``AmpOptimWrapper``, which also runs on a machine without an accelerator.

    With CUDA, NPU, MLU or MUSA it is that class: autocast and a gradient scaler. Without, where
    that class refuses to start, it trains in float32, unscaled, and logs one warning. Checkpoints
    go both ways: a scaler state that float32 training loads is kept and written again.

    Args:
        loss_scale: ``'dynamic'`` (default), a float, or a dict of ``GradScaler`` arguments.
        dtype: Autocast type, such as ``'bfloat16'``; ``None`` takes the device's default.
        use_fsdp: Use the gradient scaler for sharded parameters. Default ``False``.
        **kwargs: Arguments of mmengine's ``OptimWrapper``.

    Raises:
        TypeError: ``loss_scale`` is of another type, or the dict has unknown keys.
        AssertionError: ``dtype`` is not allowed.
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs,
    ) -> None:
        self.has_accelerator = (
            is_cuda_available() or is_npu_available() or is_mlu_available() or is_musa_available()
        )
        if self.has_accelerator:
            super().__init__(loss_scale=loss_scale, dtype=dtype, use_fsdp=use_fsdp, **kwargs)
            return
        _check_arguments(loss_scale, dtype)
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        self._scale_update_param = None
        self._loaded_scaler_state: dict | None = None
        print_log(
            'Mixed precision is off: this machine has no CUDA, NPU, MLU or MUSA device, so '
            'training runs in float32.',
            logger='current',
            level=logging.WARNING,
        )

    def optim_context(self, model: nn.Module) -> AbstractContextManager:
        """Autocast where there is an accelerator; otherwise only mmengine's gradient sync rule."""
        if self.has_accelerator:
            return super().optim_context(model)
        return OptimWrapper.optim_context(self, model)

    def state_dict(self) -> dict:
        """The optimizer's state, with the scaler's where one is in use or was loaded."""
        if self.has_accelerator:
            return super().state_dict()
        state = OptimWrapper.state_dict(self)
        if self._loaded_scaler_state is not None:
            state['loss_scaler'] = self._loaded_scaler_state
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state written with or without an accelerator."""
        if not self.has_accelerator:
            self._loaded_scaler_state = state_dict.pop('loss_scaler', None)
        super().load_state_dict(state_dict)


def _check_arguments(loss_scale: str | float | dict, dtype: str | torch.dtype | None) -> None:
    """Refuse what ``AmpOptimWrapper`` refuses, so that a bad config fails on a CPU too."""
    if loss_scale != 'dynamic' and not isinstance(loss_scale, (float, dict)):
        raise TypeError(f"loss_scale={loss_scale!r} must be 'dynamic', a float or a dict.")
    if isinstance(loss_scale, dict):
        torch.amp.GradScaler('cpu', **{**loss_scale, 'enabled': False})
    allowed = AmpOptimWrapper.valid_dtypes
    if isinstance(dtype, str):
        assert dtype in allowed, f'dtype={dtype!r} must be one of {", ".join(allowed)}.'
    else:
        assert dtype is None or isinstance(dtype, torch.dtype), (
            f'dtype={dtype!r} must be None, a torch.dtype, or one of {", ".join(allowed)}.'
        )

"""Sharded training (FSDP) of detectors and segmentors under mmengine's ``FlexibleRunner``."""

from __future__ import annotations

import os
from typing import Any

import torch
from mmengine._strategy import FSDPStrategy
from mmengine._strategy.base import BaseStrategy
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.optim import OptimWrapper
from mmengine.registry import STRATEGIES
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from revcol_backbone.checkpoints.finetuned import read_without_code
from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.checkpoints.state_dict import shapes_of
from revcol_backbone.engine.amp import PortableAmpOptimWrapper


@STRATEGIES.register_module()
class RevColFSDPStrategy(FSDPStrategy):
    """mmengine's ``FSDPStrategy`` that trains as an unsharded run does.

    - Parameter groups are made on the whole model and then get its shards: a shard is a vector or
      empty, so that layer decay or a rule by dimensions could not be read off it.
    - ``clip_grad`` clips by the norm of the whole gradient, not by that of a process's shards.
    - Checkpoints are those of the whole model, unless ``state_dict_cfg`` says otherwise, and load
      without FSDP. Training resumes from them, with a gradient scaler's state too. Where training
      starts from ``load_from``, weights of another shape are left out, and the log says which.
    - The whole model is one unit: a part of its own would be gathered whenever it runs, which is
      not equally often in every process where images differ in size (sliding windows), and
      RevCol's memory-saving backward needs the parameters of all columns at once.
    - For a test the whole model is in every process, or in the only one.

    Args:
        model_wrapper: As in mmengine's ``FSDPStrategy``; ``use_orig_params`` has to stay ``True``.
        state_dict_cfg: As there, but ``'full'`` unless given.
        kwargs: As there.

    Raises:
        RuntimeError: On preparing, training was started without a launcher.
    """

    def __init__(
        self,
        *,
        model_wrapper: dict | None = None,
        state_dict_cfg: str | dict = 'full',
        **kwargs: Any,
    ) -> None:
        super().__init__(model_wrapper=model_wrapper, state_dict_cfg=state_dict_cfg, **kwargs)
        if get_device() == 'cpu':
            # mmengine would put the shards on a GPU.
            self.model_wrapper = {
                'type': 'MMFullyShardedDataParallel',
                'device_id': torch.device('cpu'),
                **(model_wrapper or {}),
            }
            # torch 2.14 gathers all kinds of an optimizer's state into one buffer, which to offload
            # from the CPU to the CPU is no copy: Adam's first moments would be its second ones.
            self.optim_state_dict_config.offload_to_cpu = False

    def prepare(self, model: nn.Module | dict, *, optim_wrapper: Any = None, **kwargs: Any) -> Any:
        """Build, shard and wrap everything; arguments as in mmengine's strategies."""
        if not self._prepared:
            self.trains = optim_wrapper is not None
            if self.trains and not self.distributed:
                raise RuntimeError(
                    'RevColFSDPStrategy trains in several processes; add `--launcher pytorch` or '
                    '`--launcher slurm`, or take the config without FSDP.'
                )
            built: nn.Module = self.build_model(model)
            self.whole_shapes = shapes_of(built.state_dict())
            if isinstance(optim_wrapper, dict):
                if optim_wrapper.get('type') == PortableAmpOptimWrapper.__name__:
                    optim_wrapper.setdefault('use_fsdp', True)
                optim_wrapper = super().build_optim_wrapper(optim_wrapper, built)
            model = built
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    def build_optim_wrapper(
        self, optim_wrapper: OptimWrapper, model: FullyShardedDataParallel
    ) -> OptimWrapper:
        """Give a wrapper of the whole model's optimizer the parameters of the sharded model."""
        shards = {_whole_name(name): shard for name, shard in model.named_parameters()}
        for group in optim_wrapper.optimizer.param_groups:
            names = [self.id_to_name[id(parameter)] for parameter in group['params']]
            group['params'] = [shards[name] for name in names]
        if getattr(optim_wrapper, 'clip_func', None) is nn.utils.clip_grad_norm_:
            optim_wrapper.clip_func = lambda _, **kwargs: model.clip_grad_norm_(**kwargs)
        return optim_wrapper

    def optim_state_dict(self) -> dict:
        """The optimizer's state, whole in the first process, with the wrapper's own entries."""
        wrapper = self.optim_wrapper
        state = wrapper.state_dict()
        optimizer = {key: state.pop(key) for key in ('state', 'param_groups')}
        whole = FullyShardedDataParallel.optim_state_dict(self.model, wrapper.optimizer, optimizer)
        return {**state, **whole}

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load a state that :meth:`optim_state_dict` returned."""
        state = dict(state_dict)
        optimizer = {key: state.pop(key) for key in ('state', 'param_groups')}
        shards = FullyShardedDataParallel.optim_state_dict_to_load(
            self.model, self.optim_wrapper.optimizer, optimizer
        )
        self.optim_wrapper.load_state_dict({**state, **shards})

    def load_checkpoint(self, filename: str, **kwargs: Any) -> dict:
        """Load a file without running code from it; arguments as in mmengine's strategies."""
        # `FlexibleRunner` loads before any hook could have prepared for it.
        read_without_code(filename)
        return super().load_checkpoint(filename, **kwargs)

    def save_checkpoint(self, filename: str, **kwargs: Any) -> None:
        """Write a checkpoint, a whole one atomically; arguments as in mmengine's strategies."""
        if not self._is_full_state_dict():
            super().save_checkpoint(filename, **kwargs)
            return
        partial = f'{filename}.{os.getpid()}.part'
        super().save_checkpoint(partial, **kwargs)
        if is_main_process():
            with open(partial, 'r+b') as file:
                os.fsync(file.fileno())
            os.replace(partial, filename)

    def load_model_state_dict(
        self, state_dict: dict, *, strict: bool = False, **kwargs: Any
    ) -> None:
        """Load weights of the whole model; the log has those that stay as they were."""
        if not self.trains:
            BaseStrategy.load_model_state_dict(self, state_dict, strict=strict, **kwargs)
            return
        fitting = state_dict
        if self._is_full_state_dict():
            fitting = {
                name: weight
                for name, weight in state_dict.items()
                if self.whole_shapes.get(name) == tuple(weight.shape)
            }
            left_out = [name for name in state_dict if name not in fitting]
            missing = [name for name in self.whole_shapes if name not in fitting]
            if left_out or missing:
                self.logger.warning(
                    f'The checkpoint and the model differ: not loaded {list_first(left_out)}; '
                    f'left as initialized {list_first(missing)}'
                )
        super().load_model_state_dict(fitting, strict=strict)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        return super()._wrap_model(model) if self.trains else model.to(get_device())


def _whole_name(name: str) -> str:
    """The name that a parameter of a sharded model has in the whole one."""
    return name.replace('_fsdp_wrapped_module.', '')

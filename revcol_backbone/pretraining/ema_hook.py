"""Moving averages of the weights, also of weights that are sharded."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS, MODELS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel


@HOOKS.register_module()
class ShardableEMAHook(EMAHook):
    """mmengine's ``EMAHook``, which also works under ``FlexibleRunner`` and its FSDP strategies.

    Sharded, every process averages its own shards; checkpoints are those of an unsharded training.

    Args:
        **kwargs: As of mmengine's ``EMAHook``; ``momentum`` is 1 minus the decay.
    """

    def before_run(self, runner: Any) -> None:
        """Make the averages, unless loading a checkpoint has made them."""
        if hasattr(self, 'ema_model'):
            return
        if not _is_sharded(runner):
            super().before_run(runner)
            return
        self.src_model = _LocalShards(runner.model)
        self.ema_model = MODELS.build(self.ema_cfg, default_args={'model': self.src_model})

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Save the averages as the weights, and the weights beside them."""
        if not _is_sharded(runner):
            super().before_save_checkpoint(runner, checkpoint)
            return
        self._swap_ema_parameters()
        averages = runner.strategy.model_state_dict()  # whole, in the first process
        self._swap_ema_parameters()
        weights = {f'module.{name}': value for name, value in checkpoint['state_dict'].items()}
        checkpoint['ema_state_dict'] = {'steps': self.ema_model.steps, **weights}
        checkpoint['state_dict'] = averages

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Resume the averages, or start them from what was loaded."""
        self.before_run(runner)  # `FlexibleRunner` loads before it calls it
        if not _is_sharded(runner):
            super().after_load_checkpoint(runner, checkpoint)
            return
        runner.strategy.load_model_state_dict(checkpoint['state_dict'])
        pairs = zip(self.ema_model.module.parameters(), self.src_model.parameters(), strict=True)
        for average, shard in pairs:
            average.data.copy_(shard.data)
        saved = checkpoint.pop('ema_state_dict', None)
        if saved is not None and runner._resume:
            self.ema_model.steps.fill_(saved.pop('steps'))
            checkpoint['state_dict'] = {
                name.removeprefix('module.'): value for name, value in saved.items()
            }


class _LocalShards(nn.Module):
    """The parameters of a sharded model as this process holds them, and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, parameter in model.named_parameters():
            self.register_parameter(name.replace('.', '/'), parameter)


def _is_sharded(runner: Any) -> bool:
    return isinstance(runner.model, FullyShardedDataParallel)

"""Stopping training when a loss becomes NaN or infinite, before the weights do."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.modules.batchnorm import _BatchNorm

from revcol_backbone.checkpoints.reading import list_first
from revcol_backbone.engine.exact_resume import seed_iteration
from revcol_backbone.engine.stopping import TrainingStoppedError, print_stops_in_one_line


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop training at the first loss that is NaN or infinite, and say where that comes from.

    The message has the iteration, the loss terms, and the module whose output is the first that is
    not finite although its inputs are, such as ``backbone.subnet2.level3.blocks.0.pwconv1``. It is
    found by running the batch again. The optimizer step of that iteration is not taken, so
    the weights stay as they were. A gradient that is not finite stops training, too, where
    ``clip_grad`` measures its norm; a gradient scaler handles its own overflows as always.

    The losses are looked at while the backward pass runs: one small reduction, copied to the host
    without waiting for it.
    """

    priority = 'ABOVE_NORMAL'  # before hooks that write checkpoints or logs

    def __init__(self) -> None:
        self._losses: dict[str, Tensor] = {}
        self._is_finite: Tensor | None = None
        self._is_copied: torch.cuda.Event | None = None
        self._batch: Any = None
        self._handles = ExitStack()

    def before_train(self, runner: Any) -> None:
        """Watch the losses and the optimizer."""
        print_stops_in_one_line()
        self._handles.close()
        watches = [_unwrapped(runner.model).register_forward_hook(self._see)]
        wrapper = runner.optim_wrapper
        for one in wrapper.values() if hasattr(wrapper, 'optim_wrappers') else [wrapper]:
            watches.append(
                one.optimizer.register_step_pre_hook(lambda *_: self._check(runner, True))
            )
        for watch in watches:
            self._handles.callback(watch.remove)

    def after_train(self, runner: Any) -> None:
        """Stop watching."""
        self._handles.close()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the batch, to run it again if need be."""
        self._batch, self._is_finite = data_batch, None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Check where no optimizer step was taken: under a gradient scaler, or accumulating."""
        self._check(runner, False)
        self._batch, self._losses = None, {}

    def _see(self, model: nn.Module, _: Any, output: Any) -> None:
        if not model.training or not isinstance(output, dict) or self._batch is None:
            return
        means = {name: _mean(value) for name, value in output.items() if 'loss' in name}
        losses = {name: value for name, value in means.items() if value is not None}
        if not losses:
            return
        self._losses = losses
        is_finite = torch.stack([value.float() for value in losses.values()]).isfinite().all()
        self._is_finite = is_finite.to('cpu', non_blocking=True)
        if is_finite.is_cuda:
            self._is_copied = torch.cuda.Event()
            self._is_copied.record()

    def _check(self, runner: Any, is_step: bool) -> None:
        if self._is_copied is not None:
            self._is_copied.synchronize()
        if self._is_finite is not None and not self._is_finite:
            self._stop(runner, 'the loss is not finite')
        # The norm of an earlier iteration would have stopped training then.
        norms = runner.message_hub.log_scalars.get('train/grad_norm') if is_step else None
        if norms is not None and not torch.tensor(norms.current()).isfinite():
            self._stop(runner, 'the gradient is not finite')

    def _stop(self, runner: Any, what: str) -> None:
        batch, self._batch = self._batch, None  # running it again is not to be watched
        terms = ', '.join(f'{name} {float(value):.4g}' for name, value in self._losses.items())
        raise TrainingStoppedError(
            f'{what} at iteration {runner.iter + 1} ({terms}); {_locate(runner, batch)}. Its '
            f'optimizer step was not taken; the last checkpoint in {runner.work_dir} is good. '
            'Common cures are a lower learning rate, clip_grad, bfloat16 in place of float16, and '
            'a look at the images and annotations of this batch.'
        )


def _locate(runner: Any, batch: Any) -> str:
    """Say in words where the first number that is not finite is."""
    model = _unwrapped(runner.model)
    broken = [
        name
        for name, value in (*model.named_parameters(), *model.named_buffers())
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        return f'the weights are not finite already: {list_first(broken)}'
    if isinstance(runner.model, FullyShardedDataParallel):
        return 'the weights are finite (the place is not looked for in a sharded model)'
    found: list[str] = []
    seed_iteration(runner)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                watch = module.register_forward_hook(
                    lambda _, inputs, output, name=name: (
                        found.append(name)
                        if not found and _are_finite(inputs) and not _are_finite(output)
                        else None
                    )
                )
                stack.callback(watch.remove)
        # Synchronized norms would wait for the other processes, and statistics stay as they are.
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.training and get_world_size() > 1:
                module.eval()
        data = model.data_preprocessor(batch, True)
        if not _are_finite(data.get('inputs')):
            return 'the input images are not finite'
        with torch.no_grad(), runner.optim_wrapper.optim_context(runner.model):
            if get_world_size() > 1 and hasattr(model, 'extract_feat'):
                # Losses may add up over the processes, which are not here with us.
                model.extract_feat(data['inputs'])
            else:
                model(**data, mode='loss')
    if found:
        return f'the first output that is not finite is that of {found[0]}'
    return 'all outputs of modules are finite: it comes from the loss itself or the backward pass'


def _unwrapped(model: BaseModel) -> BaseModel:
    while is_model_wrapper(model) and not isinstance(model, FullyShardedDataParallel):
        model = model.module
    return model


def _mean(value: Any) -> Tensor | None:
    """A loss term as mmengine sums it up: a tensor, or a list of them."""
    values = [value] if isinstance(value, Tensor) else value
    if not isinstance(values, (list, tuple)) or not values:
        return None
    return sum(item.detach().mean() for item in values)


def _are_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return True
    items: Iterable[Any] = value
    return all(map(_are_finite, items))

"""An mmengine hook that logs how large the columns' outputs are, and the range of ``alpha``."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from revcol_backbone.analysis.columns import find_revcols, watch_columns
from revcol_backbone.checkpoints.state_dict import without_wrapper
from revcol_backbone.column import Column, Features

DEFAULT_INTERVAL = 50


@HOOKS.register_module()
class ColumnMonitorHook(Hook):
    """Log the variance of each level of each column and the range of ``alpha`` while training.

    ``custom_hooks = [dict(type='ColumnMonitorHook', interval=50)]`` writes to every visualisation
    backend of the config, such as ``vis_backends = [dict(type='TensorboardVisBackend')]``:

    - ``column_variance/backbone.subnet2.level3``: over images, channels and positions;
    - ``alpha_min/backbone.subnet2.alpha3``, ``alpha_max/...``: of ``|alpha|`` over the channels.
      Near 0 the shortcut loses the column before, and ``save_memory`` rounds by 1 / alpha (the
      forward pass uses at least 1e-3). The first column has no shortcut and so none of these.

    Values are those of the forward pass of that iteration, before its optimizer step, on the first
    process's images; where the model runs several times in an iteration, of the first time. Between
    the iterations that it logs, the hook does nothing.

    Args:
        interval: Log every so many iterations. Default 50.

    Raises:
        ValueError: The interval is no positive integer, or the model has no RevCol.
    """

    priority = 'LOW'  # after the hooks that may change the model

    def __init__(self, interval: int = DEFAULT_INTERVAL) -> None:
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise ValueError(
                f'ColumnMonitorHook interval={interval!r} is not allowed; give a positive integer.'
            )
        self.interval = interval
        self._watches = ExitStack()
        self._measured: dict[str, Tensor] = {}

    def before_train(self, runner: Any) -> None:
        """Check that there is something to log."""
        if not find_revcols(runner.model):
            raise ValueError(
                'ColumnMonitorHook found no RevCol in the model; take it out of `custom_hooks`.'
            )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Start to watch the columns if this iteration is to be logged."""
        # An iteration that raised never reached the end, where its watches are taken away.
        self._stop_watching()
        if not self.every_n_train_iters(runner, self.interval):
            return
        for name, revcol in find_revcols(runner.model).items():
            see = partial(self._measure, without_wrapper(name))
            self._watches.enter_context(watch_columns(revcol, see))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write what was measured, and stop watching."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        measured = self._measured
        self._stop_watching()
        if not measured:
            runner.logger.warning(
                'ColumnMonitorHook saw no column run in this iteration; a network that is compiled '
                'whole hides them: train it without `compile`, or take the hook out of '
                '`custom_hooks`.'
            )
            return
        # One transfer for all of them.
        values = torch.stack(list(measured.values())).tolist()
        scalars = dict(zip(measured, values, strict=True))
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)

    def _measure(self, revcol: str, index: int, column: Column, levels: Features) -> None:
        place = f'{revcol}.subnet{index}' if revcol else f'subnet{index}'
        if f'column_variance/{place}.level0' in self._measured:
            return
        for level, output in enumerate(levels):
            variance = output.detach().float().var(correction=0)
            self._measured[f'column_variance/{place}.level{level}'] = variance
        if index == 0:  # It has no shortcut.
            return
        for level, alpha in enumerate(column.alphas):
            size = alpha.detach().float().abs()
            self._measured[f'alpha_min/{place}.alpha{level}'] = size.min()
            self._measured[f'alpha_max/{place}.alpha{level}'] = size.max()

    def _stop_watching(self) -> None:
        self._watches.close()
        self._measured = {}

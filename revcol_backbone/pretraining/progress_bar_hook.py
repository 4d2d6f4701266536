"""A progress bar with speed and time left."""

from __future__ import annotations

import sys
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show on a terminal how far a training is, its speed, its loss and the time left.

    Where the error stream is not a terminal nothing is shown: the log has speed and time left.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def before_train(self, runner: Any) -> None:
        """Start the bar where the training starts or resumes."""
        if not (is_main_process() and sys.stderr.isatty()):
            return
        self._progress = Progress(
            TextColumn('epoch {task.fields[epoch]}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[speed]:.0f} images/s, loss {task.fields[loss]:.3f}'),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._progress.start()
        self._progress.add_task(
            'train', total=runner.max_iters, completed=runner.iter, epoch=0, speed=0.0, loss=0.0
        )

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Move the bar."""
        if self._progress is None:
            return
        batch = len(data_batch['inputs']) * get_world_size()
        seconds, loss = (
            runner.message_hub.get_scalar(f'train/{name}').current() for name in ('time', 'loss')
        )
        self._progress.update(
            self._progress.task_ids[0],
            completed=runner.iter + 1,
            epoch=f'{runner.epoch + 1}/{runner.max_epochs}',
            speed=batch / seconds,
            loss=loss,
        )

    def after_train(self, runner: Any) -> None:
        """Leave the full bar on the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

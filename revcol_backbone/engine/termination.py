"""Ending a training run on a signal: soon, with all of its processes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop
from torch import tensor

GRACE = 8.0  # seconds from a signal to a forced end
_PR_SET_PDEATHSIG = 1
_LAUNCHERS = ('mim', 'torchrun', 'torch.distributed.launch', 'torch.distributed.run')


@HOOKS.register_module()
class TerminationHook(Hook):
    """End training within 10 seconds of SIGINT (Ctrl-C) or SIGTERM, loader processes included.

    - The first signal ends the run at once; if that takes longer than 8 seconds, because of a long
      operation or a process that does not answer, the run is cut off. A second one cuts it off.
    - Loader processes end with the training process, however that ends (Linux).
    - If ``mim`` or ``torchrun``, which started this process, is killed, that counts as SIGTERM
      (Linux).

    Args:
        save: Finish the running iteration, if it takes less than 8 seconds, and write a checkpoint
            ``interrupted_iter_N.pth``, from which ``--resume`` continues. Default ``False``.
    """

    priority = 'LOWEST'  # after the hooks that count, average and log

    def __init__(self, save: bool = False) -> None:
        self.save = save
        self._signal: int | None = None
        self._is_saving = False
        self._former: dict[int, Any] = {}

    def before_run(self, runner: Any) -> None:
        """Start to listen."""
        for name in ('train', 'val', 'test'):
            loop = getattr(runner, f'_{name}_loop', None)
            loader = getattr(loop, 'dataloader', None)
            if loader is not None and loader.num_workers:
                loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn, os.getpid())
        _watch_launcher()
        if threading.current_thread() is threading.main_thread() and not self._former:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, partial(self._receive, runner))

    def after_run(self, runner: Any) -> None:
        """Give the signals back."""
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former = {}

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write the checkpoint if one is due."""
        if not self.save or not self._is_due():
            return
        self._is_saving = True
        filename = f'interrupted_iter_{runner.iter + 1}.pth'
        backend = dict(backend='revcol_atomic')
        runner.save_checkpoint(runner.work_dir, filename, by_epoch=False, backend_args=backend)
        runner.logger.warning(
            f'Training was interrupted: {filename} holds iteration '
            f'{runner.iter + 1}; continue with --resume.'
        )
        sys.exit(128 + (self._signal or signal.SIGTERM))

    def _is_due(self) -> bool:
        is_due = self._signal is not None
        if get_world_size() == 1:
            return is_due
        # All processes write, or wait for the one that writes, in the same iteration.
        count = tensor(int(is_due))
        all_reduce(count)
        return bool(count)

    def _receive(self, runner: Any, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            _cut_off(number)
        self._signal = number
        name = signal.Signals(number).name
        print(f'{name}: ending the training run', file=sys.stderr, flush=True)
        threading.Thread(target=self._force, args=(number,), daemon=True).start()
        # Not `runner.train_loop`, which would build the loop in a test.
        is_training = isinstance(runner._train_loop, BaseLoop) and runner.model.training
        if not (self.save and is_training):
            sys.exit(128 + number)

    def _force(self, number: int) -> None:
        time.sleep(GRACE)
        while self._is_saving:
            time.sleep(0.1)
        _cut_off(number)


def _cut_off(number: int) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)


def _start_worker(former: Callable[[int], None] | None, parent: int, worker: int) -> None:
    """Tie a loader process to the training process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that
            os._exit(1)
    if former is not None:
        former(worker)


def _watch_launcher() -> None:
    launcher = _find_launcher(os.getppid()) if sys.platform == 'linux' else None
    if launcher is not None:
        threading.Thread(target=_wait_for_end, args=(launcher,), daemon=True).start()


def _wait_for_end(pid: int) -> None:
    started = _start_time(pid)
    while _start_time(pid) == started is not None:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _find_launcher(pid: int) -> int | None:
    """The outermost of the processes that started this one and only wait for it."""
    found = None
    while pid > 1:
        try:
            words = Path(f'/proc/{pid}/cmdline').read_bytes().decode(errors='replace').split('\0')
            parent = int(_stat(pid)[1])
        except (OSError, IndexError, ValueError):
            break
        if not any(Path(word).name in _LAUNCHERS for word in words[:6]):
            break
        found, pid = pid, parent
    return found


def _start_time(pid: int) -> str | None:
    try:
        fields = _stat(pid)
    except OSError:
        return None
    return None if fields[0] == 'Z' else fields[19]


def _stat(pid: int) -> list[str]:
    """The fields of a process after its name: state, parent, ..."""
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()

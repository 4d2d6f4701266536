"""Ending a run of several processes when one of them stops answering."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.distributed import TCPStore

DEFAULT_TIMEOUT = 120.0


@HOOKS.register_module()
class HeartbeatHook(Hook):
    """End a run of several processes if one of them is stopped, swapped out or cut off.

    Such a process leaves the others waiting in a collective operation, for up to half an hour. A
    thread of each process reports to the store that the processes met at; if a process
    has not reported for ``timeout`` seconds, the others print which one it is and exit with status
    1, whereupon the launcher ends the run. A long iteration or validation does not matter, because
    the thread keeps reporting. A process that ends by itself is the launcher's business.

    Args:
        timeout: Seconds. Default 120.

    Raises:
        ValueError: The timeout is not a positive number.
    """

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
            raise ValueError(
                f'HeartbeatHook timeout={timeout!r} is not allowed; give seconds above 0.'
            )
        self.timeout = timeout
        self._is_over = threading.Event()

    def before_run(self, runner: Any) -> None:
        """Start the thread."""
        address, port = os.environ.get('MASTER_ADDR'), os.environ.get('MASTER_PORT')
        if get_world_size() == 1 or not (address and port):
            return
        store = TCPStore(
            address,
            int(port),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=self.timeout),
        )
        self._is_over.clear()
        store.set(_key(get_rank()), _report(0))
        arguments = (store, get_rank(), get_world_size())
        threading.Thread(target=self._watch, args=arguments, daemon=True).start()

    def after_run(self, runner: Any) -> None:
        """End the thread."""
        self._is_over.set()

    def _watch(self, store: TCPStore, rank: int, processes: int) -> None:
        beat = 0
        reported: dict[int, str] = {}
        seen = dict.fromkeys(range(processes), time.monotonic())
        last = time.monotonic()
        while not self._is_over.wait(self.timeout / 10):
            if time.monotonic() - last > self.timeout / 2:
                # This process itself was stopped; the others have not been seen since then.
                seen = dict.fromkeys(seen, time.monotonic())
            last = time.monotonic()
            beat += 1
            try:
                store.set(_key(rank), _report(beat))
                for other in range(processes):
                    if store.check([_key(other)]):
                        report = store.get(_key(other)).decode()
                        if report != reported.get(other):
                            reported[other], seen[other] = report, time.monotonic()
            except RuntimeError:  # the process with the store is gone or does not answer
                if not self._is_over.is_set():
                    _end(f'the store of the run does not answer for {self.timeout:g} s')
            silent = {
                other for other in range(processes) if time.monotonic() - seen[other] > self.timeout
            }
            if silent:
                _end(
                    ', '.join(_describe(other, reported.get(other)) for other in sorted(silent))
                    + f' has not answered for {self.timeout:g} s: it is stopped, or its machine '
                    'is cut off'
                )


def _key(rank: int) -> str:
    return f'revcol_backbone/heartbeat/{rank}'


def _report(beat: int) -> str:
    return f'{beat} {os.getpid()} {socket.gethostname()}'


def _describe(rank: int, report: str | None) -> str:
    if report is None:
        return f'process {rank}'
    _, pid, host = report.split(' ', 2)
    return f'process {rank} (pid {pid} on {host})'


def _end(reason: str) -> None:
    print(
        f'error: {reason}; this run ends. Continue it with --resume.', file=sys.stderr, flush=True
    )
    os._exit(1)

"""Ending a training run with one sentence for the user instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType


class TrainingStoppedError(RuntimeError):
    """Training cannot continue; the message says why, and what the user can do."""


def print_stops_in_one_line() -> None:
    """Let Python print a :class:`TrainingStoppedError` that nobody catches as ``error: ...``.

    Other exceptions keep their traceback. Calling this again changes nothing.
    """
    if not isinstance(sys.excepthook, _OneLine):
        sys.excepthook = _OneLine(sys.excepthook)


class _OneLine:
    def __init__(self, former: Callable[..., object]) -> None:
        self.former = former

    def __call__(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if isinstance(error, TrainingStoppedError):
            print(f'error: {error}', file=sys.stderr)
        else:
            self.former(kind, error, trace)

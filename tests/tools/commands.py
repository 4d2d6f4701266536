"""Running a command that has to fail."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable


def error_of(main: Callable[[list[str]], int], *arguments: object) -> str:
    """Run a command that has to end with status 1, and return its one line of error."""
    with contextlib.redirect_stderr(io.StringIO()) as written:
        assert main([str(argument) for argument in arguments]) == 1
    (error,) = [line for line in written.getvalue().splitlines() if line.startswith('error: ')]
    return error

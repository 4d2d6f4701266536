"""How a command ends: with an exit status, and an error as one line on standard error."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence

INTERRUPTED = 130  # what shells report for a program that Ctrl-C has ended
# What the package raises with a message for the user. Anything else is a bug and keeps its trace.
_EXPECTED = (ImportError, OSError, ValueError)

Main = Callable[[Sequence[str] | None], int | None]


def report_errors(main: Main) -> Callable[..., int]:
    """Decorate the ``main`` of a command so that every command ends in the same way.

    An expected error (``ValueError``, ``OSError`` or ``ImportError``) is printed as one line,
    ``error: ...``, on standard error. Wrong arguments end in argparse's own way, with status 2.

    Args:
        main: Takes the command line (``None`` for that of the process) and returns the exit
            status; ``None`` counts as 0.

    Returns:
        The same function, whose status is also 1 after an error and 130 after Ctrl-C.

    Example:
        >>> @report_errors
        ... def main(arguments: Sequence[str] | None = None) -> None:
        ...     args = parse_arguments(arguments)
        >>> sys.exit(main())
    """

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            # A file name need not be valid in the encoding of the terminal.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors='backslashreplace')
        try:
            return main(arguments) or 0
        except KeyboardInterrupt:
            print('interrupted', file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough. Python flushes the stream once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except _EXPECTED as error:
            print(f'error: {_in_one_line(error)}', file=sys.stderr)
            return 1

    return run


def _in_one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        where = '' if error.filename is None else f'{os.fspath(error.filename)}: '
        text = f'{where}{error.strerror}'
    return ' '.join(text.split()) or type(error).__name__

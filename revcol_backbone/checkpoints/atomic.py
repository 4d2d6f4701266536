"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file beside its place and move it there, so that no half file is ever seen.

    Args:
        path: The file, replaced if it exists; its folder is made if it is missing.
        write: Writes the path that it is given.

    Returns:
        The path of the file.

    Raises:
        OSError: It cannot be written; a file that was there stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path

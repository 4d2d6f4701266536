"""A folder for visitors' files that does not outlive the demo, however the demo ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = 'revcol_demo_'
LOCK = 'lock'


@contextmanager
def private_folder() -> Iterator[Path]:
    """Create a folder, delete it in the end, and delete those of demos that were killed.

    The folder of a running demo holds a locked file. The operating system releases the lock when
    the process ends, so that the next demo can tell which folders are left over.
    """
    remove_leftovers()
    # Renamed when it is locked, so that no other demo takes it for a leftover.
    folder = Path(tempfile.mkdtemp(prefix=f'.{PREFIX}'))
    with (folder / LOCK).open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = folder.rename(folder.with_name(folder.name.removeprefix('.')))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers() -> None:
    """Delete the folders of this user's demos that are no longer running."""
    for folder in Path(tempfile.gettempdir()).glob(f'{PREFIX}*'):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            with (folder / LOCK).open('r') as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # locked by a running demo, gone by now, or not made by a demo
            continue

"""Writing files atomically, checkpoints among them, which may carry their hash in their name."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from revcol_backbone.checkpoints.verify import sha256_of

SUFFIXES = ('.pth', '.pt', '.safetensors')
HASH_DIGITS = 8  # of the sha256 in a published name, by the OpenMMLab convention


def write_atomically(
    path: Path,
    write: Callable[[Path], object],
    final_name: Callable[[Path], str] | None = None,
) -> Path:
    """Write a file under a temporary name beside ``path`` and rename it when it is complete.

    At any moment, and after the process is killed at any moment, ``path`` is the old file or the
    new one, never a part of it. The bytes are on the disk before the file gets its name.

    Args:
        path: The file, replaced if it exists; its folder is made if it is missing.
        write: Writes the whole file to the path that it is given.
        final_name: Computes the name from the written file, where it is not that of ``path``.

    Returns:
        The path of the file.

    Raises:
        OSError: The file cannot be written; the file that was there stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The number of a thread is unique among all threads of a machine.
    partial = path.with_name(f'{path.name}.{threading.get_native_id()}.part')
    try:
        with _naming(path):
            write(partial)
        if final_name is not None:
            path = path.with_name(final_name(partial))
        with partial.open('r+b') as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of the operating system name the file and not the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def write_checkpoint(
    weights: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    path: Path,
    publish: bool = False,
    entry: str = 'state_dict',
) -> Path:
    """Write a checkpoint atomically (:func:`write_atomically`).

    The same content gives the same bytes, and so the same hash, under any name.

    Args:
        weights: The state dict.
        meta: What stands beside it; safetensors have no place for it.
        path: The file to write, replaced if it exists. ``.safetensors`` is written in that format,
            any other suffix by ``torch.save`` as ``dict(meta=..., state_dict=...)``.
        publish: Put the first 8 digits of the file's sha256 before the suffix.
        entry: Name of the weights in the file; Detectron2 reads ``model``. Default ``state_dict``.

    Returns:
        The path of the written file.

    Raises:
        OSError: The file cannot be written.
        ImportError: The package safetensors is needed and not installed.
    """
    write = _write_safetensors if path.suffix == '.safetensors' else _write_pickle
    content, entries = _separate(weights), dict(meta)

    def name_with_hash(written: Path) -> str:
        return f'{path.stem}-{sha256_of(written)[:HASH_DIGITS]}{path.suffix}'

    return write_atomically(
        path,
        lambda partial: write(content, entries, partial, entry),
        name_with_hash if publish else None,
    )


def _write_pickle(weights: dict[str, Tensor], meta: dict[str, Any], path: Path, entry: str) -> None:
    # Into an open file, because torch.save writes the name of a path into the file.
    with path.open('xb') as file:
        recorder = _Recorder(file)
        try:
            torch.save({'meta': meta, entry: weights}, cast(BinaryIO, recorder))
        except RuntimeError as error:
            # In place of the disk's own error torch raises one about the archive.
            raise recorder.error or error from None


class _Recorder:
    """A file that remembers why it could not be written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.flush = file.flush
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise


def _write_safetensors(
    weights: dict[str, Tensor], meta: dict[str, Any], path: Path, entry: str
) -> None:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError:
        raise ImportError(
            f'{path} cannot be written without the package safetensors; run '
            '`pip install safetensors` or choose a .pth file.'
        ) from None
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(weights, path, metadata={'format': 'pt'})
    except SafetensorError as error:
        if number := re.search(r'os error (\d+)', str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        raise OSError(f'the file could not be written: {error}') from error
    path.chmod(mode)  # safetensors make files that only their owner can read


def _separate(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy views, which drag along all of what they look into, and tied weights, which safetensors
    refuse; other tensors stay as they are, for they may be larger than the memory."""
    separate: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, value in weights.items():
        storage = value.untyped_storage()
        if storage.nbytes() != value.nbytes or storage.data_ptr() in seen:
            value = value.clone(memory_format=torch.contiguous_format)
        seen.add(storage.data_ptr())
        separate[key] = value.contiguous()
    return separate

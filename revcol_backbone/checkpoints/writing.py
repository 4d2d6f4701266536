"""Writing a checkpoint file whole or not at all, under a name that may carry its hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SUFFIXES = ('.pth', '.pt', '.safetensors')
HASH_DIGITS = 8  # of the sha256 in a published name, by the OpenMMLab convention


def write_checkpoint(
    weights: Mapping[str, Tensor], meta: Mapping[str, Any], path: Path, publish: bool = False
) -> Path:
    """Write a checkpoint through a temporary file beside it, so that no half file is ever seen.

    The same content gives the same bytes, and so the same hash, under any name.

    Args:
        weights: The state dict.
        meta: What stands beside it; safetensors have no place for it.
        path: The file to write, replaced if it exists. ``.safetensors`` is written in that format,
            any other suffix by ``torch.save`` as ``dict(meta=..., state_dict=...)``.
        publish: Put the first 8 digits of the file's sha256 before the suffix.

    Returns:
        The path of the written file.

    Raises:
        OSError: The file cannot be written.
        ImportError: The package safetensors is needed and not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}.part')
    write = _write_safetensors if path.suffix == '.safetensors' else _write_pickle
    try:
        write(_separate(weights), dict(meta), partial)
        if publish:
            path = path.with_name(f'{path.stem}-{_sha256(partial)[:HASH_DIGITS]}{path.suffix}')
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _write_pickle(weights: dict[str, Tensor], meta: dict[str, Any], path: Path) -> None:
    # Into an open file, because torch.save writes the name of a path into the file.
    with path.open('xb') as file:
        torch.save({'meta': meta, 'state_dict': weights}, file)


def _write_safetensors(weights: dict[str, Tensor], meta: dict[str, Any], path: Path) -> None:
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
        raise OSError(f'{path} could not be written: {error}') from error
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

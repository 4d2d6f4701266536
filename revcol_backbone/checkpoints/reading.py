"""Reading the weights of a checkpoint file without running anything that the file asks for."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

# Where training scripts put the weights: mmengine and mmcv under the first, the published
# classification files under the second.
WEIGHT_ENTRIES = ('state_dict', 'model')


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint file, memory-mapped where its format allows.

    Args:
        path: A ``.safetensors`` file, or any file made by ``torch.save`` that holds a state dict:
            bare, or under ``state_dict`` or ``model`` beside whatever a training script added.

    Returns:
        The state dict as it is stored. An entry that is not a tensor is an inert placeholder if it
        is an object of a class that torch does not know.

    Raises:
        ValueError: The file is damaged, is not a checkpoint or holds no weights.
        ImportError: A ``.safetensors`` file is given and that package is not installed.
    """
    checkpoint = read_checkpoint(path)
    entry = weights_entry(checkpoint, path)
    return checkpoint if entry is None else dict(checkpoint[entry])


def weights_entry(checkpoint: Mapping[str, Any], path: Path) -> str | None:
    """Find under which entry of a checkpoint the weights are; ``None`` if they are bare.

    Raises:
        ValueError: There are none; ``path`` is for the message.
    """
    for entry in WEIGHT_ENTRIES:
        if isinstance(checkpoint.get(entry), Mapping):
            return entry
    if any(isinstance(value, Tensor) for value in checkpoint.values()):
        return None
    raise ValueError(
        f'{path} holds no weights: its entries are {list_first(map(repr, checkpoint))}; '
        f'give a file with a state dict, bare or under {" or ".join(map(repr, WEIGHT_ENTRIES))}.'
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read everything a checkpoint file holds; arguments and errors as in :func:`read_weights`.

    torch's weights-only unpickler refuses a whole file for one object of a class that it does not
    know, such as the configuration that a training script saved beside the weights. Here an inert
    placeholder takes the place of each such object, so nothing of the file is imported or called.
    """
    if path.stat().st_size == 0:
        raise ValueError(f'{path} is empty; download or copy it again.')
    try:
        if path.suffix == '.safetensors':
            checkpoint = _read_safetensors(path)
        elif _is_zip(path):
            checkpoint = _read_zip(path)
        else:  # the format that torch wrote before 1.6, which cannot be memory-mapped
            checkpoint = _torch_load(path, mmap=False)
    except (ImportError, PermissionError):
        raise
    except Exception as error:  # a broken or crafted file can raise anything
        raise _unreadable(path, error) from None
    if not isinstance(checkpoint, Mapping):
        raise ValueError(
            f'{path} is not a checkpoint: it holds one {type(checkpoint).__name__} where a '
            'dictionary of weights belongs.'
        )
    return dict(checkpoint)


def list_first(items: Any, limit: int = 3) -> str:
    """Join the first ``limit`` items by commas and say how many more there are."""
    items = list(items)
    listed = ', '.join(map(str, items[:limit])) or 'none'
    return listed if len(items) <= limit else f'{listed} and {len(items) - limit} more'


class _EqualsDict(type):
    """A class of this kind compares equal to ``dict``.

    torch's unpickler adds items only to objects whose type equals ``dict`` and would refuse a file
    in which an unknown subclass of it (a configuration node, say) appears.
    """

    def __eq__(cls, other: object) -> bool:
        return cls is other or other is dict

    __hash__ = type.__hash__


class _Placeholder(list, metaclass=_EqualsDict):
    """Takes the place of any class or function that a file names; every use of it does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def _ignore(self, *args: Any) -> None:
        """Accept one of the unpickler's instructions."""

    append = extend = __setitem__ = __setstate__ = _ignore
    # It can be a dictionary's key, which a list cannot.
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        # torch can be told to write 0 for every checksum, which its own reader never looks at.
        damaged = archive.testzip() if any(record.CRC for record in records) else None
    if damaged:
        raise zipfile.BadZipFile(f'its part {damaged!r} does not match its checksum')
    # Memory mapping hands out the raw bytes, which are the weights only if stored as they are.
    is_stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
    unknown = sorted(get_unsafe_globals_in_checkpoint(str(path)))
    with safe_globals([(_Placeholder, name) for name in unknown]):
        checkpoint = _torch_load(path, mmap=is_stored)
    if unknown:
        print_log(
            f'{path}: left out the Python objects beside the weights ({list_first(unknown)}); '
            'nothing of them was imported or run',
            logger='current',
        )
    return checkpoint


def _torch_load(path: Path, mmap: bool) -> Any:
    with warnings.catch_warnings():
        # About other pickle protocols: what the unpickler cannot read, it refuses with an error.
        warnings.filterwarnings('ignore', message='Detected pickle protocol')
        return torch.load(str(path), map_location='cpu', weights_only=True, mmap=mmap)


def _unreadable(path: Path, error: Exception) -> ValueError:
    # torch wraps its refusals in advice to switch the protection off; the cause alone is wanted.
    cause = error.__context__ if isinstance(error, UnpicklingError) and error.__context__ else error
    # In torch's words, and in those of `allow_mmengine_globals`.
    refused = re.search(r'GLOBAL ([\w.]*\w)|asks for ([^;]+);', str(cause))
    if refused:
        return ValueError(
            f'{path} was not read, because it asks for {refused[1] or refused[2]}, which cannot '
            'be left out safely; give a file that holds only weights.'
        )
    reason = f'{type(cause).__name__}: {cause}'.split('\n')[0]
    return ValueError(
        f'{path} is not a checkpoint, or it is damaged or cut short ({reason}); download or copy '
        'it again.'
    )


def _is_zip(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(4) == b'PK\x03\x04'


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise ImportError(
            f'{path} needs the package safetensors, which is not installed; run '
            '`pip install safetensors` or give a .pth file.'
        ) from None
    return load_file(path, device='cpu')

"""Letting mmengine's own training checkpoints load under torch's weights-only protection.

Since 2.6, ``torch.load`` reads only tensors and plain containers, and refuses every file that names
another class or function, because calling those is how a malicious file runs code. mmengine 0.10.7
writes such names itself (its issue 1655, open): the history of logged values, NumPy's numbers and
arrays, and ``getattr``, with which pickle refers to functions defined in a class.
"""

from __future__ import annotations

from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch.serialization import add_safe_globals

# The functions that a training checkpoint refers to, by the class that defines them.
_FUNCTIONS = {
    HistoryBuffer: ('min', 'max', 'mean', 'current'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}
# Booleans, integers, floating-point and complex numbers, bytes and text: no Python objects.
_KINDS_OF_NUMBERS = 'biufcSU'
# NumPy 2 renamed the module of the functions that rebuild its numbers and arrays.
_NUMPY_MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray')


def allow_mmengine_globals() -> None:
    """Allow what mmengine writes into a training checkpoint, and nothing beyond it.

    Afterwards ``mim test``, ``--resume`` and ``Runner.load_checkpoint`` read such files. The
    protection stays on: any other class or function in a file is refused as before, and so is a
    ``getattr`` of anything but the statistics of mmengine's history of logged values and the
    annealing functions of its one-cycle schedule. Calling this again changes nothing.
    """
    rebuild_number: Any = np.float64(0).__reduce__()[0]
    rebuild_array: Any = np.zeros(0).__reduce__()[0]
    add_safe_globals(
        [
            *_FUNCTIONS,
            ConfigDict,  # a dictionary in `metainfo` of a data set
            np.ndarray,
            *{type(np.dtype(code)) for code in np.typecodes['All'] if _is_number(np.dtype(code))},
            *((rebuild_number, f'{module}.scalar') for module in _NUMPY_MODULES),
            *((rebuild_array, f'{module}._reconstruct') for module in _NUMPY_MODULES),
            (_number_dtype, 'numpy.dtype'),
            (_known_function, 'builtins.getattr'),
        ]
    )
    # onedl-mmengine reads a file that the protection has refused a second time, without it.
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):
        mmengine_checkpoint._safe_torch_load = _load_protected


def _load_protected(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """Take the place of onedl-mmengine's loader; ``weights_only`` is always true."""
    return torch.load(file, map_location=map_location, weights_only=True)


def _known_function(owner: Any, name: Any) -> Any:
    """Take the place of ``getattr`` in a file.

    Raises:
        UnpicklingError: It asks for anything but the known functions.
    """
    for known, names in _FUNCTIONS.items():
        if owner is known and type(name) is str and name in names:
            return getattr(known, name)
    raise UnpicklingError(
        f'The file asks for the attribute {name!r} of {owner!r}; no training checkpoint of '
        'mmengine needs that, and it was not read.'
    )


def _number_dtype(*args: Any) -> np.dtype:
    """Take the place of ``numpy.dtype`` in a file.

    Raises:
        UnpicklingError: It asks for a dtype that can hold Python objects.
    """
    dtype = np.dtype(*args)
    if not _is_number(dtype):
        raise UnpicklingError(
            f'The file asks for the NumPy dtype {dtype}; no training checkpoint of mmengine needs '
            'that, and it was not read.'
        )
    return dtype


def _is_number(dtype: np.dtype) -> bool:
    return dtype.kind in _KINDS_OF_NUMBERS

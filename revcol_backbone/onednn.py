"""oneDNN applies an operation while the results of the one before are still in registers: where.

What it needs of a weight, such as its own layout of it, is computed once and again where the weight
has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

Made = TypeVar('Made')
# By weight and purpose: what the result was made from, clones that share this memory, the result.
_MADE: WeakIdKeyDictionary = WeakIdKeyDictionary()


def made_of(purpose: Hashable, make: Callable[..., Made], *weights: Tensor) -> Made | None:
    """Compute something from weights, anew only where they have changed.

    Whoever writes to a weight, through ``.data``, a view or NumPy just as well, writes to its
    storage. That of each weight is shared with a copy-on-write clone, so that the first write
    moves it to other memory, however few elements it changes.

    Args:
        purpose: Tells results of the same weights apart.
        make: Computes the result from the detached weights.
        weights: The weights.

    Returns:
        The result; ``None`` if it cannot be kept.
    """
    by_purpose = _MADE.setdefault(weights[0], {})
    known, _, made = by_purpose.get(purpose, (None, None, None))
    if known is None or known != [_memory_of(weight) for weight in weights]:
        made = make(*(weight.detach() for weight in weights))
        try:
            clones = [weight.detach()._lazy_clone() for weight in weights]
        except RuntimeError:  # memory that is not PyTorch's own, as of a mapped file
            return None
        by_purpose[purpose] = ([_memory_of(weight) for weight in weights], clones, made)
    return made


def fusable_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype to compute an operation on x in, or None where oneDNN fuses nothing.

    It does on x86 CPUs without gradients. Compilers see custom operators; exporters and tracers
    have to see PyTorch's own.
    """
    if x.device.type != 'cpu' or (x.requires_grad and torch.is_grad_enabled()):
        return None
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return None
    if not (torch.compiler.is_compiling() or torch.backends.mkldnn.enabled):
        return None
    dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype
    return dtype if dtype in _FUSABLE else None


def fuses(dtype: torch.dtype) -> bool:
    """Whether oneDNN fuses operations of a dtype on this machine."""
    return dtype in _FUSABLE


def _memory_of(weight: Tensor) -> tuple:
    address = torch._C._data_address(weight)  # type: ignore[attr-defined]  # not in torch's stubs
    return address, weight.storage_offset(), weight.shape, weight.stride()


def _fusable_dtypes() -> frozenset[torch.dtype]:
    is_x86 = torch.backends.cpu.get_cpu_capability().startswith('AVX')
    if not (is_x86 and torch.backends.mkldnn.is_available()):
        return frozenset()
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return frozenset([torch.float32, torch.bfloat16])
    return frozenset([torch.float32])


_FUSABLE = _fusable_dtypes()

"""Exact count of the tensor memory that a piece of code holds at once, on any device."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Count the bytes of the tensor storages made inside this context, and their peak.

    Every storage counts once, from the operator that makes it until it is freed, however many
    tensors share it; tensors from before the context do not count. The count is exact and the
    same on every machine, because it does not depend on an allocator; what an operator needs
    and frees while it runs is not seen.

    Example:
        >>> with LiveBytes() as live:
        ...     loss = model(image).sum()
        ...     loss.backward()
        >>> live.peak, live.now
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {_address(tensor) for tensor in _tensors((args, kwargs))}
        results = func(*args, **(kwargs or {}))
        for tensor in _tensors(results):
            if _address(tensor) not in before:
                self._count(tensor.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self._known:
            return
        self._known[address] = weakref.finalize(storage, self._forget, address, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, address: int, size: int) -> None:
        del self._known[address]
        self.now -= size


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata

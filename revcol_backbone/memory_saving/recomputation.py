"""Computing a level a second time, exactly as the first time, without touching the module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from revcol_backbone.block.block_function import KnownOutput

_HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
_CHECKED: WeakIdKeyDictionary = WeakIdKeyDictionary()


class LevelCall:
    """One call of a level, to be repeated in the backward pass as a function of tensors.

    What the level is when this is made (weights, training mode, anything that its modules hold) is
    what the repetition uses, whatever happens to the module in between. The repetition runs on a
    copy of the level, so that other threads may use the level at the same time; it draws the same
    random numbers, and leaves buffers and random generators as they are.

    Args:
        level: The level.

    Attributes:
        tensors: The weights of the level, tied ones once.
    """

    def __init__(self, level: nn.Module) -> None:
        self.tensors: list[Tensor] = []
        self._level = level
        self._slots: list[tuple[dict, str, int]] = []
        self._buffers: list[tuple[dict, str, Tensor]] = []
        self._changed: list[tuple[dict, str, Tensor]] = []
        self._numbers: dict[int, int] = {}
        self._random: _RandomState | None = None
        self._lock = Lock()
        self._copy = self._copied(level, {})
        self._autocast: dict | None = None

    @property
    def chain_length(self) -> int:
        """How many blocks of the level can be told what they will find; 0 if it is compiled."""
        is_compiled = getattr(self._level, '_compiled_call_impl', None) is not None
        if is_compiled or type(self._level) is not type(self._copy):
            return 0
        return len(getattr(self._level, 'chain', ()))

    def run(
        self, *arguments: object, keep: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Call the level itself, without gradients; note the random numbers that it draws.

        Args:
            arguments: The arguments of the level.
            keep: Blocks of the level's ``chain`` whose outputs to return as well, counted from its
                end: -1 is the last one.

        Returns:
            The output, and those of these blocks.
        """
        self._autocast = _autocast_now(arguments)
        before = _RandomState.now(arguments)
        saved = [(*slot, slot[-1].clone(), slot[-1]._version) for slot in self._buffers]
        blocks: dict[int, Tensor] = {}
        with torch.no_grad():
            if keep:
                outputs = cast(Any, self._level).run_chain(*arguments)
                output, blocks = outputs[-1], {index: outputs[index] for index in keep}
            else:
                output = self._level(*arguments)
        if before.has_moved():
            self._random = before
        # A level such as one with batch normalization updates its buffers; the repetition needs
        # their values of before. Kernels update without counting versions, so that a module of
        # which one buffer counts as changed has them all changed.
        changed = {
            id(slots) for slots, _, buffer, _, version in saved if buffer._version != version
        }
        self._changed = [
            (slots, name, value)
            for slots, name, buffer, value, _ in saved
            if id(slots) in changed or (buffer.is_cpu and not torch.equal(buffer, value))
        ]
        if _CHECKED.get(self._level) != self._fingerprint():
            self._check(arguments)
            _CHECKED[self._level] = self._fingerprint()
        return output, blocks

    def repeat(
        self,
        tensors: Sequence[Tensor],
        *arguments: object,
        known: Mapping[int, KnownOutput] | None = None,
    ) -> Tensor:
        """Compute the same again from other tensors in place of :attr:`tensors`.

        Args:
            tensors: The other tensors.
            arguments: The arguments of the level.
            known: What is known of outputs of blocks, counted from the end of the ``chain`` that a
                level may have.
        """
        replay = self._random.replay() if self._random else nullcontext()
        # Its cache is off: casts cached without gradients would cut those of a later user.
        autocast = (
            torch.autocast(**self._autocast, cache_enabled=False)
            if self._autocast
            else nullcontext()
        )
        # The copy is used by one thread at a time; what autograd keeps of it, it holds itself.
        with self._lock, replay, autocast:
            for slots, name, number in self._slots:
                slots[name] = tensors[number]
            for slots, name, value in self._changed:
                slots[name] = value.clone()
            chain = getattr(self._copy, 'chain', [])
            told = {chain[index]: output for index, output in (known or {}).items() if chain}
            for block, output in told.items():
                block.known = output
            try:
                return self._copy(*arguments)
            finally:
                for block in told:
                    del block.known

    def _copied(self, module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
        if module in known:
            return known[module]
        if isinstance(module, torch._dynamo.OptimizedModule):
            return self._copied(module._orig_mod, known)
        kind = type(module)
        copy = known[module] = kind.__new__(kind)
        entries = vars(copy)
        entries.update(vars(module))
        # A compiled call is bound to the original.
        entries.pop('_compiled_call_impl', None)
        if module._parameters:
            entries['_parameters'] = self._with_slots(module._parameters)
        if module._buffers:
            entries['_buffers'] = buffers = self._with_slots(module._buffers)
            self._buffers += [
                (buffers, name, value)
                for name, value in buffers.items()
                if value is not None and not value.requires_grad
            ]
        if module._modules:
            entries['_modules'] = {
                name: None if child is None else self._copied(child, known)
                for name, child in module._modules.items()
            }
        # Sharding puts views of its flat parameters in the parameters' place.
        self._with_slots(entries)
        return copy

    def _with_slots(self, entries: dict) -> dict:
        copied = entries if '_parameters' in entries else dict(entries)
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.requires_grad:
                if id(value) not in self._numbers:
                    self._numbers[id(value)] = len(self.tensors)
                    self.tensors.append(value)
                self._slots.append((copied, name, self._numbers[id(value)]))
        return copied

    def _fingerprint(self) -> tuple[int, ...]:
        return tuple(map(id, self._level.modules()))

    def _check(self, arguments: Sequence[object]) -> None:
        """Refuse a level whose weights are not all its own, which would get no gradients."""
        leaves = [tensor.detach().requires_grad_() for tensor in self.tensors]
        with torch.enable_grad():
            repeated = self.repeat(leaves, *tree_map_only(Tensor, Tensor.detach, arguments))
        own = set(map(id, leaves))
        for leaf in _leaves_of(repeated):
            if id(leaf) not in own:
                raise ValueError(
                    f'{type(self._level).__name__} uses a tensor of shape {tuple(leaf.shape)} that '
                    'needs a gradient and is no parameter of it or of its modules; with '
                    'save_memory=True register it there as a parameter, or build the network '
                    'with save_memory=False.'
                )


def why_not_repeatable(column: nn.Module) -> str | None:
    """Name what hangs on the inside of a column and must run once, in plain training's order."""
    for name, module in column.named_modules():
        if module is column:
            continue
        if any(getattr(module, hooks) for hooks in _HOOKS):
            return f'{name} has hooks'
        if isinstance(module, (torch.jit.ScriptModule, FullyShardedDataParallel)):
            return f'{name} is a {type(module).__name__}'
    return None


def only_watches(hook: Callable) -> Callable:
    """Mark a column's forward hook that changes nothing and takes part in no loss.

    It is called in the forward pass, with levels that have no gradients, and costs no memory.
    """
    vars(hook)['only_watches'] = True
    return hook


def watching_hooks(column: nn.Module) -> list[Callable]:
    """The forward hooks of a column that only watch."""
    return [hook for hook in column._forward_hooks.values() if hasattr(hook, 'only_watches')]


def has_other_hooks(column: nn.Module) -> bool:
    """Whether a call of the column calls anything beside it that does not only watch."""
    count = sum(len(getattr(column, hooks)) for hooks in _HOOKS)
    return count > len(watching_hooks(column))


class _RandomState:
    """The state of the generators that a computation on some device draws from."""

    def __init__(self, device: torch.device) -> None:
        self._on_host = torch.get_rng_state()
        self._device = device
        self._on_device: Tensor | None = None
        if device.type not in ('cpu', 'meta'):
            self._on_device = torch.get_device_module(device).get_rng_state(device)

    @classmethod
    def now(cls, arguments: Sequence[object]) -> _RandomState:
        """The state before a computation on tensors."""
        return cls(_device_of(arguments))

    def has_moved(self) -> bool:
        """Whether random numbers were drawn since."""
        now = _RandomState(self._device)
        if not torch.equal(self._on_host, now._on_host):
            return True
        if self._on_device is None or now._on_device is None:
            return False
        return not torch.equal(self._on_device, now._on_device)

    def replay(self) -> AbstractContextManager:
        """A context that draws the same numbers again, and then puts the generators back."""
        return _Replay(self)


class _Replay:
    def __init__(self, state: _RandomState) -> None:
        self._state = state

    def __enter__(self) -> None:
        self._current = _RandomState(self._state._device)
        _set(self._state)

    def __exit__(self, *_: object) -> None:
        _set(self._current)


def _autocast_now(arguments: Sequence[object]) -> dict | None:
    kind = _device_of(arguments).type
    if not torch.amp.is_autocast_available(kind):
        return None
    return {
        'device_type': kind,
        'enabled': torch.is_autocast_enabled(kind),
        'dtype': torch.get_autocast_dtype(kind),
    }


def _device_of(arguments: Sequence[object]) -> torch.device:
    return next(value.device for value in arguments if isinstance(value, Tensor))


def _set(state: _RandomState) -> None:
    torch.set_rng_state(state._on_host)
    if state._on_device is not None:
        torch.get_device_module(state._device).set_rng_state(state._on_device, state._device)


def _leaves_of(output: Tensor) -> Iterator[Tensor]:
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, 'variable'):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]

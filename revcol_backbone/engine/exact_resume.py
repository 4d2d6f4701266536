"""Resuming a run so that it continues as if it had never stopped."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.utils.data import DataLoader

SAMPLER_SEED = 'sampler_seed'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make the random numbers and the data of an iteration a function of the seed and its number.

    A resumed run then sees the same images in the same order, with the same augmentation, and draws
    the same numbers in the model as a run that was never stopped. mmengine stores no random
    state, restarts the loader processes with other ones, and loads all past batches again in
    iteration-based training.

    - Before each iteration Python, NumPy and PyTorch are seeded from (seed, iteration, process).
    - Before each sample they are seeded from (seed, pass over the data, place in it), in whichever
      process loads it, so results depend neither on ``num_workers`` nor, with an equal total batch
      size, on the number of processes.
    - On resuming, the batches of past iterations are skipped without loading them, in the middle of
      an epoch, too.
    - A seed that mmengine drew for a run without one is used again.

    mmengine restores the rest: weights and their moving averages, optimizer, gradient scaler,
    schedules and logged values. Not restored are gradients that were being accumulated.
    """

    priority = 'VERY_HIGH'  # before hooks that take batches

    def before_train(self, runner: Any) -> None:
        """Prepare the loader, and let it continue after the iterations of the checkpoint."""
        loop = runner.train_loop
        loader = loop.dataloader
        if loader.batch_sampler is None:
            runner.logger.warning(
                'ExactResumeHook does not know the order of the data of a loader without batches: '
                'a resumed run will see other samples.'
            )
            return
        sampler = loader.batch_sampler.sampler
        if hasattr(sampler, 'seed'):
            sampler.seed = runner.message_hub.runtime_info.get(SAMPLER_SEED, sampler.seed)
            runner.message_hub.update_info(SAMPLER_SEED, sampler.seed)
        iterator = getattr(loop, 'dataloader_iterator', None)
        if iterator is not None and isinstance(sampler, InfiniteSampler):
            # The iterator that the loop made has taken samples out of the old one.
            sampler = type(sampler)(sampler.dataset, sampler.shuffle, sampler.seed)
            loader.batch_sampler.sampler = sampler
        batches = SeededBatches(loader.batch_sampler, runner.seed)
        # `DataLoader` guards these two against changes that a running iterator would not see.
        object.__setattr__(loader, 'batch_sampler', batches)
        seed_samples(loader)
        passes, done = _place_in_data(loop, loader, sampler)
        batches.skip_once = done
        if iterator is not None:
            if passes and hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(passes)
            # Its loader processes are older than what was changed above.
            loop.dataloader_iterator = loader._iterator = None
            fresh = type(iterator)(loader)
            fresh._epoch = passes
            loop.dataloader_iterator = _Advanced(fresh, loop.iter)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the iteration."""
        seed_iteration(runner)


class SeededBatches:
    """Batches of a batch sampler whose indices carry a seed.

    Args:
        batches: The batch sampler.
        seed: Seed of the run.

    Attributes:
        skip_once: Batches to omit in the next pass.
    """

    def __init__(self, batches: Any, seed: int) -> None:
        self.batches = batches
        self.seed = seed
        self.skip_once = 0

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Sequence[int]]:
        rank, processes = get_dist_info()
        epoch = getattr(self.batches.sampler, 'epoch', 0)
        skipped, self.skip_once = self.skip_once, 0
        place = 0
        for number, batch in enumerate(self.batches):
            first, place = place, place + len(batch)
            if number >= skipped:
                yield [
                    SeededIndex(index, _derive(self.seed, 'sample', epoch, at * processes + rank))
                    for at, index in enumerate(batch, start=first)
                ]


class SeededIndex(int):
    """An index into a data set, with the seed for the randomness of its sample."""

    seed: int

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # pickles both
        return int(self), self.seed


def seed_samples(loader: DataLoader) -> None:
    """Let the data set of a loader seed Python, NumPy and PyTorch by a :class:`SeededIndex`."""
    kind = type(loader.dataset)
    if kind.__module__ != 'builtins':  # a plain list is not random
        loader.dataset.__class__ = _seeded(kind)


def seed_iteration(runner: Any) -> None:
    """Seed everything for the iteration that a runner is about to run."""
    seed = _derive(runner.seed, 'iteration', runner.iter, get_dist_info()[0])
    _seed_host(seed)
    torch.manual_seed(seed)


def _seeded(kind: type[Any]) -> type[Any]:
    def get_item(self: Any, index: int) -> Any:
        if isinstance(index, SeededIndex):
            _seed_host(index.seed)
            torch.default_generator.manual_seed(index.seed)
        return kind.__getitem__(self, int(index))

    def reduce(self: Any) -> tuple:
        return _restore, (kind, self.__dict__)

    # The loader asks a data set with `__getitems__` for whole batches.
    members = {'__getitem__': get_item, '__getitems__': None, '__reduce__': reduce}
    return type(kind.__name__, (kind,), members)


def _restore(kind: Any, state: dict[str, Any]) -> Any:
    dataset = kind.__new__(kind)
    dataset.__dict__.update(state)
    dataset.__class__ = _seeded(kind)
    return dataset


def _place_in_data(loop: Any, loader: DataLoader, sampler: Any) -> tuple[int, int]:
    """Passes over the data that are complete, and batches of the next one that are done."""
    if isinstance(sampler, InfiniteSampler):
        return 0, loop.iter
    if hasattr(loop, 'dataloader_iterator'):
        return divmod(loop.iter, len(loader))
    done = loop.iter - loop.epoch * len(loader)
    # Anything else comes from another number of processes or another batch size.
    return loop.epoch, done if 0 < done <= len(loader) else 0


class _Advanced:
    """An iterator over batches that has the first ones behind it.

    mmengine's loop takes as many batches as there were iterations and throws them away; these are
    ``None`` here, because the loader skips them itself.
    """

    def __init__(self, batches: Iterator[Any], iterations: int) -> None:
        self._past = islice(iter(lambda: None, ...), iterations)
        self._batches = batches

    def __iter__(self) -> _Advanced:
        return self

    def __next__(self) -> Any:
        for past in self._past:
            return past
        return next(self._batches)


def _derive(*parts: int | str) -> int:
    """A number of 32 bits that any difference between the parts changes."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, 'little')


def _seed_host(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)

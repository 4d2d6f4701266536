"""Timing functions for comparison: in turns, with the ratio of each turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

LOW, HIGH = 10, 90  # percentiles


@dataclass(frozen=True)
class Spread:
    """The median of measurements with their 10th and 90th percentiles."""

    median: float
    low: float
    high: float


def summarize(values: Sequence[float]) -> Spread:
    """Return the median and spread of measurements, interpolated linearly."""
    low, median, high = np.percentile(values, (LOW, 50, HIGH))
    return Spread(float(median), float(low), float(high))


def time_in_turns(
    runs: Sequence[Callable[[], object]],
    rounds: int,
    warmup: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[], object] = lambda: None,
) -> list[list[float]]:
    """Time functions in turns, A B A B ..., so that a disturbance affects all of them.

    Args:
        runs: Functions to time.
        rounds: Number of timed turns of each.
        warmup: Number of untimed turns before, in which memory is allocated, algorithms are chosen
            and code is compiled.
        device: Synchronized before and after each run.
        clock: Returns seconds from any origin.
        progress: Called after each turn.

    Returns:
        The seconds of each run in every round.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(warmup + rounds):
        for run, own in zip(runs, seconds, strict=True):
            synchronize(device)
            start = clock()
            run()
            synchronize(device)
            if turn >= warmup:
                own.append(clock() - start)
        progress()
    return seconds


def paired_ratios(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Return the ratio of times in each round; above 1, the second is faster."""
    return [a / b for a, b in zip(first, second, strict=True)]


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type != 'cpu':
        torch.accelerator.synchronize(device)

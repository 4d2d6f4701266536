"""Timing two things so that they can be compared: in turns, and by the ratio of each turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

LOW, HIGH = 10, 90  # percentiles


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, and their 10th and 90th percentile."""

    median: float
    low: float
    high: float


def summarize(values: Sequence[float]) -> Spread:
    """The median and spread of one or more measurements; between two of them, linearly."""
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
    """Time several runs in turns, A B A B ..., so that what disturbs one disturbs the others.

    Args:
        runs: What to time.
        rounds: Timed turns of each.
        warmup: Turns of each before them that are not timed, in which memory is allocated,
            algorithms are chosen and code is compiled.
        device: Whose work is waited for before and after each run.
        clock: Seconds from any origin.
        progress: Called after each turn.

    Returns:
        For each run its seconds in every round.
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
    """How many times the first's time is the second's, in each round: above 1, the second wins."""
    return [a / b for a, b in zip(first, second, strict=True)]


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given; a CPU has."""
    if device.type != 'cpu':
        torch.accelerator.synchronize(device)

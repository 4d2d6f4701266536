"""Timing in turns, with a clock that tells what the test says."""

from __future__ import annotations

import pytest
import torch

from revcol_backbone.analysis.timing import Spread, paired_ratios, summarize, time_in_turns

CPU = torch.device('cpu')


class Clock:
    """Time passes only when a run takes some."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_runs_take_turns_and_the_warm_up_is_not_counted():
    clock, order, turns = Clock(), [], []
    durations = {'a': iter([9, 9, 2, 3, 4]), 'b': iter([7, 7, 1, 1, 2])}

    def run(name):
        order.append(name)
        clock.now += next(durations[name])

    seconds = time_in_turns(
        [lambda: run('a'), lambda: run('b')],
        rounds=3,
        warmup=2,
        device=CPU,
        clock=clock,
        progress=lambda: turns.append(len(order)),
    )
    assert order == ['a', 'b'] * 5
    assert seconds == [[2, 3, 4], [1, 1, 2]]
    assert turns == [2, 4, 6, 8, 10]


def test_ratios_are_of_the_same_round():
    assert paired_ratios([2, 3, 4], [1, 1, 2]) == [2, 3, 2]
    with pytest.raises(ValueError, match='shorter'):
        paired_ratios([1, 2], [1])


def test_a_slowdown_of_both_leaves_the_ratio_alone():
    """What the pairs are for: the ratio of the medians would be 2 or less here, or 20 or more."""
    first, second = [2, 20, 2, 20, 20], [1, 10, 1, 10, 10]
    assert summarize(paired_ratios(first, second)) == Spread(2, 2, 2)


def test_the_spread_is_from_the_tenth_to_the_ninetieth_percentile():
    assert summarize(range(11)) == Spread(median=5, low=1, high=9)
    assert summarize([3.0]) == Spread(3, 3, 3)
    # One outlier moves neither.
    assert summarize([*range(20), 10**6]).high == 18

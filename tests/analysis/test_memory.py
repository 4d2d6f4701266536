"""Counting the live tensor bytes of a piece of code."""

from __future__ import annotations

import torch

from revcol_backbone.analysis.memory import LiveBytes

KIBIBYTE = 1024


def kibibyte() -> torch.Tensor:
    return torch.empty(KIBIBYTE, dtype=torch.uint8)


def test_the_peak_counts_what_lives_at_once_and_each_storage_once() -> None:
    outside = kibibyte()
    with LiveBytes() as live:
        first, second = kibibyte(), kibibyte()
        views = [first[:100], first.view(32, 32), outside[:5]]
        first.add_(1)
        assert live.now == 2 * KIBIBYTE
        del second
        assert live.now == KIBIBYTE
        third = kibibyte()
    assert live.peak == live.now == 2 * KIBIBYTE
    del first, views
    assert live.now == KIBIBYTE
    del third
    assert (live.now, live.peak) == (0, 2 * KIBIBYTE)


def test_what_autograd_saves_counts_until_the_backward_pass_frees_it() -> None:
    weight = torch.ones(256, requires_grad=True)
    with LiveBytes() as live:
        output = (weight * 2).exp().sum()
        assert live.now == KIBIBYTE + 4
        output.backward()
        output = None
        assert live.now == weight.grad.nbytes


def test_tensors_on_the_meta_device_count_as_if_they_were_there() -> None:
    with LiveBytes() as live:
        torch.empty(2**30, device='meta') + 1
    assert live.peak == 2 * 4 * 2**30

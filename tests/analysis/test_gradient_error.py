"""Errors of gradients are those of a precision, and measuring them changes nothing."""

from __future__ import annotations

import pytest
import torch

from revcol_backbone import RevCol
from revcol_backbone.analysis.gradient_error import gradient_errors
from tests.golden import fill, image

ARCH = {'channels': (16, 16, 24, 24), 'layers': (1, 1, 1, 1), 'columns': 3}


@pytest.mark.parametrize(
    ('dtype', 'autocast', 'low', 'high'),
    [
        (torch.float64, False, 0, 0),
        (torch.float32, False, 1e-8, 1e-5),
        (torch.bfloat16, False, 1e-3, 0.5),
        (torch.bfloat16, True, 1e-3, 0.5),
    ],
)
def test_the_error_is_that_of_the_precision(dtype, autocast, low, high):
    plain, saving = gradient_errors(fill(RevCol(ARCH)), image((1, 3, 64, 64)), dtype, autocast)
    assert low <= plain <= high
    assert saving <= 10 * plain + 1e-12


def test_a_walk_that_keeps_too_little_has_a_larger_error():
    model = fill(RevCol({**ARCH, 'columns': 6}))
    for name, parameter in model.named_parameters():
        if '.alpha' in name:
            parameter.data.fill_(0.05)
    good, bad = (
        gradient_errors(set_anchors(model, every), image((1, 3, 64, 64)), torch.float32)[1]
        for every in (4, 0)
    )
    assert bad > 100 * good


def set_anchors(model, every):
    model.anchor_every = every
    return model


def test_the_network_stays_as_it_is():
    model = fill(RevCol(ARCH))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    gradient_errors(model, image((1, 3, 64, 64)), torch.bfloat16)
    assert not model.save_memory
    assert all(parameter.grad is None for parameter in model.parameters())
    for key, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[key])

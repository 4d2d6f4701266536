"""Deterministic training as the published segmentors had it: cuDNN alone."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import HOOKS
from mmengine.runner import set_random_seed

import revcol_backbone.engine.cudnn_determinism  # noqa: F401  (registers the hook)


@pytest.fixture(autouse=True)
def _settings_restored():
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def test_operators_without_a_deterministic_form_are_allowed_and_cudnn_stays_deterministic():
    set_random_seed(0, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    HOOKS.build(dict(type='CudnnDeterminismHook')).before_run(runner=None)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark

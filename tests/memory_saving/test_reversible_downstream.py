"""A whole detector and a whole segmentor take the same step with and without saved memory."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope

from tests.configs import build_model
from tests.golden import fill
from tests.tiny_models import CASCADE, UPERNET, detection_batch, segmentation_batch, tiny_config

pytestmark = pytest.mark.on_device

BATCHES = {CASCADE: detection_batch, UPERNET: segmentation_batch}


def step(name: str, save_memory: bool) -> dict[str, torch.Tensor]:
    """The gradients of all parameters after one step of a shrunk copy of the config."""
    config = tiny_config(name)
    config.model.backbone.update(save_memory=save_memory, anchor_every=1, drop_path_rate=0.3)
    config.model.backbone.arch['columns'] = 4
    model = build_model(config).train()
    fill(model.backbone)
    torch.manual_seed(0)
    inputs, samples = BATCHES[name]()
    with DefaultScope.overwrite_default_scope(config.default_scope):
        total, _ = model.parse_losses(model.loss(inputs, samples))
    total.backward()
    return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize('name', BATCHES)
def test_gradients_of_a_training_step_equal_plain_training(name: str) -> None:
    found = []
    for save_memory in (False, True):
        torch.manual_seed(1)
        found.append(step(name, save_memory))
    plain, saving = found
    assert plain.keys() == saving.keys()
    for key, gradient in plain.items():
        torch.testing.assert_close(saving[key], gradient, rtol=1e-3, atol=1e-5)

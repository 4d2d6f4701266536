"""Detectors with RevCol-ViT: a small copy trains and predicts."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope

from revcol_backbone import RevColViT
from tests.configs import build_model, load_config
from tests.tiny_models import detection_batch, tiny_vit_config


@pytest.mark.parametrize(('name', 'arch'), [('s', 'small'), ('b', 'base')])
def test_the_neck_takes_the_widths_of_the_pyramid(name: str, arch: str) -> None:
    model = load_config(f'det_configs/revcol_vit_{name}_cascade.py').model
    assert (model.backbone.type, model.backbone.arch) == ('RevColViT', arch)
    with torch.device('meta'):
        outputs = RevColViT(arch)(torch.empty(1, 3, 64, 64))
    assert [output.shape[1] for output in outputs] == model.neck.in_channels


def test_a_small_copy_trains_and_predicts() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_vit_config('det_configs/revcol_vit_s_cascade.py')).train()
    inputs, samples = detection_batch()
    with DefaultScope.overwrite_default_scope('mmdet'):
        loss, _ = model.parse_losses(model.loss(inputs, samples))
        loss.backward()
        with torch.no_grad():
            (first, _) = model.eval().predict(inputs, samples)
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())
    assert 0 < len(first.pred_instances) <= 100
    assert first.pred_instances.masks.shape[1:] == inputs.shape[-2:]

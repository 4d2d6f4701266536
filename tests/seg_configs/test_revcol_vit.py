"""Segmentors with RevCol-ViT: a small copy trains and predicts."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope

from revcol_backbone import RevColViT
from tests.configs import build_model, load_config
from tests.tiny_models import segmentation_batch, tiny_vit_config


@pytest.mark.parametrize(('name', 'arch'), [('s', 'small'), ('b', 'base')])
def test_the_heads_take_the_widths_of_the_pyramid(name: str, arch: str) -> None:
    model = load_config(f'seg_configs/revcol_vit_{name}_upernet.py').model
    assert (model.backbone.type, model.backbone.arch) == ('RevColViT', arch)
    with torch.device('meta'):
        outputs = RevColViT(arch)(torch.empty(1, 3, 64, 64))
    widths = [output.shape[1] for output in outputs]
    assert model.decode_head.in_channels == widths
    assert model.auxiliary_head.in_channels == widths[model.auxiliary_head.in_index]


def test_a_small_copy_trains_and_predicts() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_vit_config('seg_configs/revcol_vit_s_upernet.py')).train()
    inputs, samples = segmentation_batch()
    with DefaultScope.overwrite_default_scope('mmseg'):
        loss, _ = model.parse_losses(model.loss(inputs, samples))
        loss.backward()
        with torch.no_grad():
            results = model.eval().predict(inputs, samples)
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())
    assert results[0].pred_sem_seg.data.shape == (1, *inputs.shape[-2:])

"""The configs of boxes without masks are their Cascade Mask R-CNN without what masks need."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope

from tests.configs import build_model, load_config
from tests.tiny_models import detection_batch, tiny_config

WITH_MASKS = {
    'revcol_t_cascade_boxes': 'revcol_t_cascade',
    'revcol_s_cascade_boxes': 'revcol_s_cascade',
    'revcol_b_cascade_boxes': 'revcol_b_cascade',
    'revcol_l_cascade_boxes': 'revcol_l_cascade_in22k',
    'revcol_h_cascade_boxes': 'revcol_h_cascade',
}


@pytest.mark.parametrize('name', WITH_MASKS)
def test_only_masks_are_left_out(name):
    boxes = load_config(f'det_configs/{name}.py')
    masks = load_config(f'det_configs/{WITH_MASKS[name]}.py')
    roi_head = boxes.model.roi_head
    assert roi_head.pop('mask_head') is None
    assert roi_head.pop('mask_roi_extractor') is None
    del masks.model.roi_head['mask_head'], masks.model.roi_head['mask_roi_extractor']
    assert boxes.model == masks.model
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'custom_hooks', 'tta_model'):
        assert boxes[key] == masks[key]
    for split in ('train', 'val', 'test'):
        found = boxes[f'{split}_dataloader'].dataset.pipeline
        expected = masks[f'{split}_dataloader'].dataset.pipeline
        for step, with_mask in zip(found, expected, strict=True):
            if step.type == 'LoadAnnotations':
                assert not step.get('with_mask')
            else:
                step.pop('_scope_', None)
                with_mask.pop('_scope_', None)
                assert step == with_mask
    assert boxes.val_evaluator.metric == boxes.test_evaluator.metric == 'bbox'


def test_a_shrunk_copy_trains_and_predicts_boxes():
    torch.manual_seed(0)
    model = build_model(tiny_config('det_configs/revcol_t_cascade_boxes.py')).train()
    inputs, samples = detection_batch()
    for sample in samples:
        del sample.gt_instances.masks
    with DefaultScope.overwrite_default_scope('mmdet'):
        losses = model.loss(inputs, samples)
        assert not any('mask' in name for name in losses)
        parsed, _ = model.parse_losses(losses)
        parsed.backward()
        with torch.no_grad():
            (first, _) = model.eval().predict(inputs, samples)
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0
    assert 0 < len(first.pred_instances) <= 100
    assert 'masks' not in first.pred_instances

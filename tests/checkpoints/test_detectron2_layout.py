"""The names of a detector's weights in MMDetection and in Detectron2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from revcol_backbone.checkpoints.detectron2_layout import from_detectron2, to_detectron2

# As the two libraries name the parts of one detector.
PAIRS = {
    'backbone.stem.0.weight': 'backbone.bottom_up.stem.0.weight',
    'backbone.subnet3.level2.blocks.1.gamma': 'backbone.bottom_up.subnet3.level2.blocks.1.gamma',
    'neck.lateral_convs.0.conv.weight': 'backbone.fpn_lateral2.weight',
    'neck.fpn_convs.3.conv.bias': 'backbone.fpn_output5.bias',
    'rpn_head.rpn_conv.weight': 'proposal_generator.rpn_head.conv.weight',
    'rpn_head.rpn_cls.bias': 'proposal_generator.rpn_head.objectness_logits.bias',
    'rpn_head.rpn_reg.weight': 'proposal_generator.rpn_head.anchor_deltas.weight',
    'roi_head.bbox_head.2.shared_convs.3.conv.weight': 'roi_heads.box_head.2.conv4.weight',
    'roi_head.bbox_head.2.shared_convs.3.bn.running_mean': (
        'roi_heads.box_head.2.conv4.norm.running_mean'
    ),
    'roi_head.bbox_head.0.shared_fcs.1.bias': 'roi_heads.box_head.0.fc2.bias',
    'roi_head.bbox_head.1.fc_cls.weight': 'roi_heads.box_predictor.1.cls_score.weight',
    'roi_head.bbox_head.2.fc_reg.weight': 'roi_heads.box_predictor.2.bbox_pred.weight',
}
MASKS = {
    'convs.0.conv.weight': 'mask_fcn1.weight',
    'upsample.weight': 'deconv.weight',
    'conv_logits.bias': 'predictor.bias',
}
SOURCE = Path('detector.pth')


def mmdet_weights() -> dict[str, torch.Tensor]:
    weights = {key: torch.full((4, 2), float(n)) for n, key in enumerate(PAIRS)}
    for stage in range(3):
        for n, key in enumerate(MASKS):
            weights[f'roi_head.mask_head.{stage}.{key}'] = torch.tensor([stage, n])
    return weights


def test_every_part_gets_the_name_of_the_other_library() -> None:
    weights = mmdet_weights()
    converted, omitted = to_detectron2(weights, SOURCE)
    for old, new in PAIRS.items():
        assert converted[new] is weights[old]
    for old, new in MASKS.items():
        assert converted[f'roi_heads.mask_head.{new}'] is weights[f'roi_head.mask_head.2.{old}']
    assert len(converted) == len(PAIRS) + len(MASKS)
    assert sorted(omitted) == sorted(
        f'roi_head.mask_head.{stage}.{key}' for stage in (0, 1) for key in MASKS
    )


def test_the_one_mask_head_of_detectron2_serves_every_stage() -> None:
    converted, _ = to_detectron2(mmdet_weights(), SOURCE)
    back = from_detectron2(converted, SOURCE)
    assert back.keys() == mmdet_weights().keys()
    for stage in range(3):
        assert back[f'roi_head.mask_head.{stage}.conv_logits.bias'].tolist() == [2, 2]
    assert back['neck.fpn_convs.3.conv.bias'] is converted['backbone.fpn_output5.bias']


@pytest.mark.parametrize(
    ('convert', 'key'),
    [(to_detectron2, 'roi_head.semantic_head.x'), (from_detectron2, 'backbone.stem.0.weight')],
)
def test_a_weight_without_a_counterpart_stops_the_conversion(convert, key: str) -> None:
    with pytest.raises(ValueError, match=f'detector.pth holds weights .*{key}.* nothing was conv'):
        convert({key: torch.zeros(1)}, SOURCE)


def test_boxes_regressed_for_each_class_are_refused() -> None:
    weights = {'roi_head.bbox_head.0.fc_reg.weight': torch.zeros(320, 2)}
    with pytest.raises(ValueError, match='for each class .*reg_class_agnostic=True'):
        to_detectron2(weights, SOURCE)

"""One detector in both libraries: the same boxes for the same images."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope

from tests.configs import ROOT
from tests.golden import fill, image
from tools.convert_checkpoint import main

ARCH = {'channels': (8, 16, 24, 32), 'layers': (1, 1, 1, 1), 'columns': 2}
CLASSES = 3


def openmmlab_detector() -> torch.nn.Module:
    config = Config.fromfile(ROOT / 'det_configs/revcol_t_cascade.py')
    model = config.model
    model.backbone.update(arch=ARCH, drop_path_rate=0.0, init_cfg=None)
    model.neck.in_channels = list(ARCH['channels'])
    for head in model.roi_head.bbox_head:
        head.update(num_classes=CLASSES, reg_class_agnostic=True, norm_cfg=dict(type='BN'))
    model.roi_head.mask_head.num_classes = CLASSES
    # Every box of the last stage: the libraries average the stages' scores in different ways (one
    # before the softmax, one after it), so that suppression could choose others.
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=300)
    model.test_cfg.rcnn.nms.iou_threshold = 1.0
    model.test_cfg.rpn.max_per_img = 100
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(model).eval()


def detectron2_detector() -> torch.nn.Module:
    model = LazyConfig.load(str(ROOT / 'det_configs/detectron2/revcol_cascade.py')).model
    model.backbone.bottom_up.update(arch=ARCH, drop_path_rate=0.0)
    model.roi_heads.num_classes = CLASSES
    model.proposal_generator.post_nms_topk = (100, 100)
    for head in model.roi_heads.box_heads:
        head.conv_norm = 'BN'
    for predictor in model.roi_heads.box_predictors:
        predictor.update(test_score_thresh=0.0, test_topk_per_image=300, test_nms_thresh=1.0)
    return instantiate(model).eval()


def test_a_detector_moved_to_detectron2_finds_equal_boxes(tmp_path: Path) -> None:
    ours, theirs = fill(openmmlab_detector()), detectron2_detector()
    torch.save({'state_dict': ours.state_dict()}, tmp_path / 'mmdet.pth')
    moved = tmp_path / 'detectron2.pth'
    assert main([str(tmp_path / 'mmdet.pth'), str(moved), '--to', 'detectron2']) == 0
    report = DetectionCheckpointer(theirs).load(str(moved))
    assert not report.get('matching_heuristics')
    own = theirs.state_dict()
    for key, value in torch.load(moved)['model'].items():
        torch.testing.assert_close(own[key], value, rtol=0, atol=0)

    shape = (128, 160)
    picture = 255 * image((3, *shape)).sigmoid()
    meta = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=meta)
    # MMDetection's preprocessing turns BGR into RGB itself; Detectron2's takes RGB here.
    batch = {'inputs': [picture.flip(0)], 'data_samples': [sample]}
    with torch.no_grad(), DefaultScope.overwrite_default_scope('mmdet'):
        expected = ours.test_step(batch)[0].pred_instances
    with torch.no_grad():
        found = theirs([{'image': picture, 'height': 128, 'width': 160}])[0]['instances']

    own_boxes = found.pred_boxes.tensor[found.pred_classes == 0]
    their_boxes = expected.bboxes[expected.labels == 0]
    assert len(own_boxes) == len(their_boxes) == 100
    distance = torch.cdist(own_boxes.double(), their_boxes.double())
    for nearest in (distance.min(0).values, distance.min(1).values):
        # Rounding may let the RPN's suppression keep another proposal.
        assert (nearest < 1e-4 * max(shape)).sum() >= 98
    torch.testing.assert_close(found.scores.max(), expected.scores.max(), rtol=0.02, atol=0)


def test_a_detector_of_detectron2_moves_to_openmmlab(tmp_path: Path) -> None:
    theirs, ours = fill(detectron2_detector()), openmmlab_detector()
    DetectionCheckpointer(theirs, str(tmp_path)).save('model_final')
    moved = tmp_path / 'mmdet.pth'
    arguments = [str(tmp_path / 'model_final.pth'), str(moved), '--from', 'detectron2']
    assert main(arguments) == 0
    missing, unexpected = ours.load_state_dict(torch.load(moved)['state_dict'], strict=False)
    assert not missing
    assert not unexpected

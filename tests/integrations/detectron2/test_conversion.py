"""One detector in both libraries: the same boxes for the same images.

In float64 up to the boxes, which Detectron2 decodes in float32. In float32 MMDetection, which takes
the sigmoid of the RPN's logits, finds scores equal that differ in Detectron2, and its suppression
may keep another one of two overlapping proposals.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tests.configs import ROOT, load_config
from tests.golden import fill, image
from tools.convert_checkpoint import main

ARCH = {'channels': (8, 16, 24, 32), 'layers': (1, 1, 1, 1), 'columns': 2}
WIDTH, CLASSES, PROPOSALS = 32, 3, 100
# Height and width of the pictures: of the padded size, and of odd ones.
SIZES = ((128, 160), (97, 131), (75, 213))


def openmmlab_detector() -> nn.Module:
    model = load_config('det_configs/revcol_t_cascade.py').model
    model.backbone.update(arch=ARCH, drop_path_rate=0.0, init_cfg=None)
    model.neck.update(in_channels=list(ARCH['channels']), out_channels=WIDTH)
    model.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    model.roi_head.bbox_roi_extractor.out_channels = WIDTH
    model.roi_head.mask_roi_extractor.out_channels = WIDTH
    for head in model.roi_head.bbox_head:
        head.update(in_channels=WIDTH, conv_out_channels=WIDTH, fc_out_channels=WIDTH)
        head.update(num_classes=CLASSES, reg_class_agnostic=True, norm_cfg=dict(type='BN'))
    model.roi_head.mask_head.update(in_channels=WIDTH, conv_out_channels=WIDTH, num_classes=CLASSES)
    # Every box of the last stage for every class, so that scores choose none.
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=PROPOSALS * CLASSES)
    model.test_cfg.rcnn.nms.iou_threshold = 1.0
    model.test_cfg.rpn.max_per_img = PROPOSALS
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(model).eval()


def detectron2_detector() -> nn.Module:
    model = LazyConfig.load(str(ROOT / 'det_configs/detectron2/revcol_cascade.py')).model
    model.backbone.bottom_up.update(arch=ARCH, drop_path_rate=0.0)
    model.backbone.out_channels = WIDTH
    model.proposal_generator.head.in_channels = WIDTH
    model.proposal_generator.post_nms_topk = (PROPOSALS, PROPOSALS)
    heads = model.roi_heads
    heads.num_classes = CLASSES
    for head in heads.box_heads:
        head.update(input_shape=ShapeSpec(channels=WIDTH, height=7, width=7), conv_norm='BN')
        head.update(conv_dims=[WIDTH] * 4, fc_dims=[WIDTH])
    for predictor in heads.box_predictors:
        predictor.update(input_shape=ShapeSpec(channels=WIDTH), test_nms_thresh=1.0)
        predictor.update(test_score_thresh=0.0, test_topk_per_image=PROPOSALS * CLASSES)
    heads.mask_head.update(
        input_shape=ShapeSpec(channels=WIDTH, height=14, width=14), conv_dims=[WIDTH] * 5
    )
    return instantiate(model).eval()


def trained_like(detector: nn.Module) -> nn.Module:
    """Weights of every part, with which boxes move by some of their size.

    MMDetection lets no box shrink below 16/1000 of its anchor, Detectron2 does.
    """
    fill(detector)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if name.rpartition('.')[0].endswith(
                ('rpn_reg', 'fc_reg', 'anchor_deltas', 'bbox_pred')
            ):
                parameter.mul_(0.1)
    return detector


@pytest.fixture(params=['to Detectron2', 'to MMDetection'])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[nn.Module, nn.Module]:
    """The same detector in MMDetection and in Detectron2, moved by the command."""
    ours, theirs = openmmlab_detector(), detectron2_detector()
    first, moved = tmp_path / 'model_final.pth', tmp_path / 'moved.pth'
    if request.param == 'to Detectron2':
        torch.save({'state_dict': trained_like(ours).state_dict()}, first)
        assert main([str(first), str(moved), '--to', 'detectron2']) == 0
        DetectionCheckpointer(theirs).load(str(moved))
        own = theirs.state_dict()
        for key, value in torch.load(moved)['model'].items():
            torch.testing.assert_close(own[key], value, rtol=0, atol=0)
    else:
        DetectionCheckpointer(trained_like(theirs), str(tmp_path)).save('model_final')
        assert main([str(first), str(moved), '--from', 'detectron2']) == 0
        missing, unexpected = ours.load_state_dict(torch.load(moved)['state_dict'], strict=False)
        assert not missing
        assert not unexpected
    return ours, theirs


def infer_openmmlab(detector: nn.Module, picture: Tensor):
    shape = tuple(picture.shape[-2:])
    meta = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
    # Its preprocessing turns BGR into RGB; Detectron2's takes RGB here.
    batch = {'inputs': [picture.flip(0)], 'data_samples': [DetDataSample(metainfo=meta)]}
    with torch.no_grad(), DefaultScope.overwrite_default_scope('mmdet'):
        return detector.test_step(batch)[0].pred_instances


def infer_detectron2(detector: nn.Module, picture: Tensor):
    height, width = picture.shape[-2:]
    with torch.no_grad():
        return detector([{'image': picture, 'height': height, 'width': width}])[0]['instances']


def use_float64(detector: nn.Module) -> None:
    """Compute the networks of a Detectron2 detector in float64; its suppression takes float32."""
    detector.double()
    for head in (detector.proposal_generator.rpn_head, *detector.roi_heads.box_predictor):
        head.register_forward_hook(
            lambda module, inputs, outputs: tree_map(torch.Tensor.float, outputs)
        )


def picture_of(size: tuple[int, int]) -> Tensor:
    return 255 * image((3, *size), str(size)).sigmoid()


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_a_moved_detector_finds_equal_boxes(pair, size: tuple[int, int]) -> None:
    ours, theirs = pair
    ours.double()
    use_float64(theirs)
    # OpenMMLab pastes masks in float32 only.
    ours.roi_head.mask_head, theirs.roi_heads.mask_on = None, False
    logits = []  # of MMDetection's three stages
    for head in ours.roi_head.bbox_head:
        head.fc_cls.register_forward_hook(lambda module, inputs, output: logits.append(output))
    picture = picture_of(size).double()
    expected, found = infer_openmmlab(ours, picture), infer_detectron2(theirs, picture)

    for label in range(CLASSES):
        own = found.pred_boxes.tensor[found.pred_classes == label]
        other = expected.bboxes[expected.labels == label]
        assert len(own) == len(other) == PROPOSALS
        distance = torch.cdist(own.double(), other.double())
        for nearest in (distance.min(0).values, distance.min(1).values):
            assert nearest.max() < 1e-4 * max(size)
        # The scores are of the same logits: MMDetection averages before the softmax, Detectron2
        # after it.
        before = torch.stack(logits).mean(0).softmax(-1)[:, label]
        after = torch.stack(logits).softmax(-1).mean(0)[:, label]
        for scores, mean in (
            (expected.scores[expected.labels == label], before),
            (found.scores[found.pred_classes == label], after),
        ):
            torch.testing.assert_close(
                scores.double().sort().values, mean.sort().values, rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize('pair', ['to MMDetection'], indirect=True)
def test_the_mask_head_of_detectron2_gives_equal_masks(pair) -> None:
    ours, theirs = pair
    size = SIZES[1]
    expected = infer_openmmlab(ours, picture_of(size))
    found = infer_detectron2(theirs, picture_of(size))
    own, other = found.pred_boxes.tensor, expected.bboxes
    compared = 0
    for index, (box, label) in enumerate(zip(own, found.pred_classes, strict=True)):
        distance = (other - box).abs().max(-1).values
        distance[expected.labels != label] = torch.inf
        if distance.min() < 1e-4 * max(size):
            masks = found.pred_masks[index], expected.masks[int(distance.argmin())]
            # Rounding decides where the probability is 1/2.
            assert (masks[0] != masks[1]).float().mean() < 1e-3
            compared += int(masks[0].any())
    assert compared > 0.5 * len(own)

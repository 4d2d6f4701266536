"""The quickstart's detector and segmentor in Detectron2: sizes, memory, deployment, yacs."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from revcol_backbone.integrations.detectron2 import RevColBackbone, add_revcol_config
from tests.configs import ROOT
from tests.golden import image

SIZES = ((97, 131), (61, 200))


@pytest.fixture
def detector(digits: Path) -> nn.Module:
    config = LazyConfig.load(str(ROOT / 'det_configs/detectron2/quickstart_cascade.py'))
    for predictor in config.model.roi_heads.box_predictors:
        predictor.test_score_thresh = 0.0
    return build(config.model)


@pytest.fixture
def segmentor(digits: Path) -> nn.Module:
    path = ROOT / 'seg_configs/detectron2/quickstart_semantic_fpn.py'
    return build(LazyConfig.load(str(path)).model)


def build(config: dict) -> nn.Module:
    torch.manual_seed(0)
    model = instantiate(config)
    # As after training: blocks that are not the identity, and biases, without which a layer norm
    # divides the black of padded pixels by the root of its epsilon.
    for name, parameter in model.backbone.named_parameters():
        if name.endswith('gamma'):
            nn.init.constant_(parameter, 0.5)
        elif name.endswith('bias'):
            nn.init.normal_(parameter, std=0.1)
    return model


def picture(size: tuple[int, int]) -> dict:
    pixels = 255 * image((3, *size), str(size)).sigmoid()
    return {'image': pixels, 'height': 2 * size[0], 'width': 2 * size[1]}


def annotated(size: tuple[int, int]) -> dict:
    """A picture with one object and a label map, which both have the same rectangle."""
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[:, 10:50, 12:40] = True
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor([[12.0, 10.0, 40.0, 50.0]]))
    instances.gt_classes = torch.tensor([3])
    instances.gt_masks = BitMasks(mask)
    return {**picture(size), 'instances': instances, 'sem_seg': 4 * mask[0].long()}


def losses(model: nn.Module, batch: list[dict]) -> dict[str, Tensor]:
    torch.manual_seed(1)  # the same proposals are drawn each time
    with EventStorage():
        return model.train()(copy.deepcopy(batch))


def test_a_detector_takes_images_of_odd_sizes(detector: nn.Module) -> None:
    batch = [annotated(size) for size in SIZES]
    sum(losses(detector, batch).values()).backward()
    assert all(parameter.grad is not None for parameter in detector.backbone.parameters())
    with torch.no_grad():
        results = detector.eval()([picture(size) for size in SIZES])
    for result, (height, width) in zip(results, SIZES, strict=True):
        found = result['instances']
        assert len(found) > 0
        assert found.pred_masks.shape[1:] == (2 * height, 2 * width)
        assert found.pred_boxes.tensor.max() <= 2 * max(height, width)


def test_a_segmentor_takes_images_of_odd_sizes(segmentor: nn.Module) -> None:
    batch = [annotated(size) for size in SIZES]
    sum(losses(segmentor, batch).values()).backward()
    assert all(parameter.grad is not None for parameter in segmentor.parameters())
    with torch.no_grad():
        results = segmentor.eval()([picture(size) for size in SIZES])
    for result, (height, width) in zip(results, SIZES, strict=True):
        assert result['sem_seg'].shape == (11, 2 * height, 2 * width)


@pytest.mark.parametrize('kind', ['detector', 'segmentor'])
def test_both_memory_modes_train_alike(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    batch = [annotated(size) for size in SIZES]
    found = []
    for mode in (True, False):
        model.zero_grad()
        model.backbone.bottom_up.save_memory = mode
        values = losses(model, batch)
        sum(values.values()).backward()
        found.append((values, {n: p.grad for n, p in model.named_parameters()}))
    (values, gradients), (expected, plain) = found
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)
    for name, gradient in gradients.items():
        scale = plain[name].abs().max().item()
        torch.testing.assert_close(gradient, plain[name], rtol=0, atol=1e-4 * scale)


def test_a_deployed_detector_finds_the_same(detector: nn.Module) -> None:
    inputs = [picture(SIZES[0])]
    with torch.no_grad():
        expected = detector.eval()(inputs)[0]['instances']
        detector.backbone.bottom_up.switch_to_deploy()
        found = detector(inputs)[0]['instances']
    torch.testing.assert_close(
        found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=0.01
    )
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=0)
    with pytest.raises(RuntimeError, match='switched to deploy'):
        detector.train()


def yacs_config() -> CfgNode:
    """Mask R-CNN of Detectron2's own model zoo on a RevCol-T."""
    cfg = get_cfg()
    add_revcol_config(cfg)
    cfg.merge_from_file(
        model_zoo.get_config_file('COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml')
    )
    cfg.MODEL.BACKBONE.NAME = 'build_revcol_fpn_backbone'
    cfg.MODEL.REVCOL.SAVE_MEMORY = True
    cfg.MODEL.REVCOL.FROZEN_COLUMNS = 2
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 32
    cfg.MODEL.DEVICE = 'cpu'
    return cfg


def test_a_detector_of_a_yacs_config_trains_and_infers(tmp_path: Path) -> None:
    (tmp_path / 'config.yaml').write_text(yacs_config().dump())
    cfg = get_cfg()
    add_revcol_config(cfg)
    cfg.merge_from_file(tmp_path / 'config.yaml')
    model = build_model(cfg)
    backbone = model.backbone.bottom_up
    assert isinstance(backbone, RevColBackbone)
    assert backbone.save_memory
    sum(losses(model, [annotated((64, 96))]).values()).backward()
    trained = {n.split('.')[0] for n, p in backbone.named_parameters() if p.grad is not None}
    assert trained == {'subnet2', 'subnet3'}
    with torch.no_grad():
        assert 'instances' in model.eval()([picture((64, 96))])[0]

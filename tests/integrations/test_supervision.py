"""Predictions convert to what supervision's annotators take."""

import numpy as np
import pytest
from mmengine.structures import BaseDataElement

from revcol_backbone.inference import load_predictor
from tests.inference import models
from tests.inference.run_files import BOX, SIZE, red_box_image
from tests.tiny_data import CLASSES, COLORS

supervision = pytest.importorskip('supervision', reason='run `pip install supervision`')

from revcol_backbone.integrations.supervision import to_supervision  # noqa: E402

LEFT, TOP, RIGHT, BOTTOM = BOX


def test_a_detection_has_its_box_mask_score_and_name(tmp_path):
    predictor = load_predictor(*models.make_color_detector(tmp_path), 'cpu')
    detections = to_supervision(predictor.predict([red_box_image()])[0], predictor.classes)
    assert detections.xyxy.tolist() == [list(BOX)]
    assert detections.confidence.tolist() == pytest.approx([0.9])
    assert detections.data['class_name'].tolist() == ['red_box']
    assert detections.mask[0, TOP:BOTTOM, LEFT:RIGHT].all()
    assert detections.mask.sum() == (RIGHT - LEFT) * (BOTTOM - TOP)
    drawing = supervision.BoxAnnotator().annotate(red_box_image(), detections)
    assert (drawing != red_box_image()).any()


def test_no_detection_is_none(tmp_path):
    predictor = load_predictor(*models.make_color_detector(tmp_path), 'cpu')
    blank = np.full((40, 40, 3), 128, np.uint8)
    assert len(to_supervision(predictor.predict([blank])[0], predictor.classes)) == 0


def test_each_class_of_a_label_map_is_one_detection(tmp_path):
    predictor = load_predictor(*models.make_color_segmentor(tmp_path), 'cpu')
    image = np.full((*SIZE, 3), COLORS[1], np.uint8)
    image[TOP:BOTTOM, LEFT:RIGHT] = COLORS[0]
    detections = to_supervision(predictor.predict([image])[0], predictor.classes)
    assert detections.data['class_name'].tolist() == list(CLASSES)
    assert detections.xyxy.tolist() == [list(BOX), [0, 0, SIZE[1], SIZE[0]]]
    assert detections.mask[0].sum() == (RIGHT - LEFT) * (BOTTOM - TOP)
    assert (detections.mask[0] != detections.mask[1]).all()


def test_anything_else_is_an_error():
    with pytest.raises(ValueError, match='neither `pred_instances` nor `pred_sem_seg`'):
        to_supervision(BaseDataElement())

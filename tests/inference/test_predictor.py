"""Predicting arrays: as OpenMMLab's inferencers do, in batches, in tiles and augmented."""

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmseg.apis import MMSegInferencer
from mmseg.structures import SegDataSample

from revcol_backbone.inference import load_predictor
from tests.inference.models import make_blue_segmentor
from tests.tiny_data import CLASSES, COLORS

FIELDS = ('bboxes', 'scores', 'labels', 'masks')


def assert_same_instances(one, other):
    for field in FIELDS:
        torch.testing.assert_close(
            one.pred_instances[field], other.pred_instances[field], rtol=1e-4, atol=1e-3
        )


def labels_of(sample):
    assert isinstance(sample, SegDataSample)
    return sample.pred_sem_seg.data


def image_with_boxes(height, width, boxes):
    """Gray, with ``(label, (left, top, right, bottom))`` in the colors of the labels."""
    image = np.full((height, width, 3), 128, np.uint8)
    for label, (left, top, right, bottom) in boxes:
        image[top:bottom, left:right] = COLORS[label]
    return image


@pytest.fixture
def detector(cascade):
    return load_predictor(*cascade, 'cpu')


@pytest.fixture
def segmentor(upernet):
    return load_predictor(*upernet, 'cpu')


def test_a_detector_predicts_what_mmdets_own_inferencer_does(detector, cascade, images):
    assert detector.classes == CLASSES
    inferencer = DetInferencer(*map(str, cascade), device='cpu', show_progress=False)
    expected = inferencer(images, return_datasamples=True)['predictions']
    for sample, other, image in zip(detector.predict(images), expected, images, strict=True):
        assert isinstance(sample, DetDataSample)
        assert sample.pred_instances.masks.shape == (5, *image.shape[:2])
        assert_same_instances(sample, other)


def test_a_segmentor_predicts_what_mmsegs_own_inferencer_does(segmentor, upernet, images):
    assert segmentor.classes == CLASSES
    inferencer = MMSegInferencer(*map(str, upernet), device='cpu')
    expected = [inferencer(image, return_datasamples=True) for image in images]
    for sample, other, image in zip(segmentor.predict(images), expected, images, strict=True):
        assert labels_of(sample).shape == (1, *image.shape[:2])
        assert torch.equal(labels_of(sample), other.pred_sem_seg.data)


@pytest.mark.parametrize('name', ['cascade', 'upernet'])
def test_the_inferencer_below_draws_by_itself(name, request, images):
    inferencer = load_predictor(*request.getfixturevalue(name), 'cpu').inferencer
    drawing = np.array(inferencer(images[:1], return_vis=True)['visualization'])
    assert drawing.size == images[0].size


def test_the_size_of_a_batch_changes_nothing(cascade, upernet, images, detector, segmentor):
    batched = load_predictor(*cascade, 'cpu', batch_size=3).predict(images)
    for one, other in zip(detector.predict(images), batched, strict=True):
        assert_same_instances(one, other)
    batched = load_predictor(*upernet, 'cpu', batch_size=3).predict(images)
    for one, other in zip(segmentor.predict(images), batched, strict=True):
        assert (labels_of(one) == labels_of(other)).float().mean() > 0.999


def test_a_image_that_fits_a_tile_is_predicted_as_without(
    cascade, upernet, images, detector, segmentor
):
    tiled = load_predictor(*cascade, 'cpu', tile=130)
    for one, other in zip(detector.predict(images), tiled.predict(images), strict=True):
        assert_same_instances(one, other)
    tiled = load_predictor(*upernet, 'cpu', tile=130)
    for one, other in zip(segmentor.predict(images), tiled.predict(images), strict=True):
        assert torch.equal(labels_of(one), labels_of(other))


@pytest.mark.parametrize('batch_size', [1, 4])
def test_objects_across_tile_borders_are_found_once_and_whole(color_detector, batch_size):
    boxes = [
        (0, [5, 5, 20, 20]),  # in the first tile alone
        (0, [40, 30, 75, 60]),  # across its border, whole in the next
        (1, [100, 10, 290, 40]),  # longer than any tile
        (1, [150, 60, 160, 140]),
        (0, [280, 130, 300, 150]),  # in the last corner
    ]
    image = image_with_boxes(150, 300, boxes)
    predictor = load_predictor(*color_detector, 'cpu', tile=64, overlap=40, batch_size=batch_size)
    (sample,) = predictor.predict([image])
    found = sample.pred_instances
    assert sorted(zip(found.labels.tolist(), found.bboxes.int().tolist(), strict=True)) == sorted(
        boxes
    )
    for label, box, mask in zip(found.labels, found.bboxes.int(), found.masks, strict=True):
        assert np.array_equal(mask.numpy(), (image == COLORS[label]).all(2) & inside(box, image))


def inside(box, image):
    mask = np.zeros(image.shape[:2], bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def test_the_label_map_of_tiles_is_that_of_the_image(color_segmentor):
    image = image_with_boxes(150, 200, [(0, [0, 0, 200, 150]), (1, [30, 20, 190, 100])])
    whole = load_predictor(*color_segmentor, 'cpu').predict([image])[0]
    tiled = load_predictor(*color_segmentor, 'cpu', tile=64, batch_size=4).predict([image])[0]
    assert torch.equal(labels_of(whole), labels_of(tiled))
    assert labels_of(whole).float().mean() == pytest.approx(160 * 80 / (200 * 150))


def test_detections_below_a_threshold_are_left_out(detector, images):
    every = detector.predict(images[:1])[0].pred_instances
    threshold = every.scores.median().item()
    kept = detector.predict(images[:1], score_threshold=threshold)[0].pred_instances
    assert torch.equal(kept.scores, every.scores[every.scores >= threshold])
    assert 0 < len(kept) < len(every)


def test_augmentation_sees_each_image_in_every_view(cascade, upernet, images):
    predictor = load_predictor(*cascade, 'cpu', tta=True, batch_size=2)
    for sample, image in zip(predictor.predict(images), images, strict=True):
        assert 5 < len(sample.pred_instances) <= 20  # of four views with five each
        assert sample.pred_instances.masks.shape[1:] == image.shape[:2]
    whole = load_predictor(*upernet, 'cpu', tta=True).predict(images)
    flipped = load_predictor(*upernet, 'cpu', tta=True, batch_size=2).predict(
        [image[:, ::-1].copy() for image in images]
    )
    for sample, mirrored in zip(whole, flipped, strict=True):
        same = labels_of(sample) == labels_of(mirrored).flip(2)
        assert same.float().mean() > 0.99


def test_augmentation_and_tiles_go_together(cascade, upernet):
    image = np.random.default_rng(0).integers(0, 256, (64, 150, 3)).astype(np.uint8)
    sample = load_predictor(*cascade, 'cpu', tta=True, tile=64).predict([image])[0]
    assert sample.pred_instances.bboxes[:, 2].max() > 86  # beyond the first two tiles
    sample = load_predictor(*upernet, 'cpu', tta=True, tile=64).predict([image])[0]
    assert labels_of(sample).shape == (1, 64, 150)


@pytest.mark.parametrize('tta', [False, True])
@pytest.mark.parametrize('tile', [None, 64])
def test_a_segmentor_of_one_channel_decides_by_its_threshold(tta, tile, tmp_path):
    image = image_with_boxes(90, 130, [(0, [0, 0, 130, 90]), (1, [30, 20, 120, 80])])
    predictor = load_predictor(*make_blue_segmentor(tmp_path), 'cpu', tta=tta, tile=tile)
    labels = labels_of(predictor.predict([image])[0])
    assert np.array_equal(labels[0].numpy(), (image == COLORS[1]).all(2))


def test_a_config_without_augmentation_is_an_error(color_detector):
    with pytest.raises(ValueError, match='has no `tta_model` and no `tta_pipeline`'):
        load_predictor(*color_detector, 'cpu', tta=True)


def test_options_change_the_config(cascade, images):
    options = {'model.test_cfg.rcnn.max_per_img': 2}
    predictor = load_predictor(*cascade, 'cpu', cfg_options=options)
    assert len(predictor.predict(images[:1])[0].pred_instances) == 2


@pytest.mark.parametrize('name', ['cascade', 'upernet'])
def test_a_drawing_has_the_size_of_its_image_and_leaves_it_alone(name, request, images):
    predictor = load_predictor(*request.getfixturevalue(name), 'cpu')
    before = [image.copy() for image in images]
    for image, sample, copy in zip(images, predictor.predict(images), before, strict=True):
        drawing = predictor.draw(image, sample, score_threshold=0.0)
        assert (drawing.shape, drawing.dtype) == (image.shape, np.uint8)
        assert (drawing != image).any()
        assert np.array_equal(image, copy)


def test_without_detections_above_the_threshold_a_drawing_is_the_image(detector, images):
    sample = detector.predict(images[:1])[0]
    assert np.array_equal(detector.draw(images[0], sample, score_threshold=1.0), images[0])


@pytest.mark.parametrize(
    'image', [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), 'image.png']
)
def test_what_is_no_bgr_array_is_an_error(image, color_detector):
    with pytest.raises(ValueError, match='must be a BGR array'):
        load_predictor(*color_detector, 'cpu').predict([image])


@pytest.mark.parametrize('device', ['gpu', 'cuda:99'])
def test_a_device_that_is_not_there_is_an_error(device, color_detector):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
        load_predictor(*color_detector, device)


def test_a_batch_of_nothing_is_an_error(color_detector):
    with pytest.raises(ValueError, match='a batch size of 0 is not allowed'):
        load_predictor(*color_detector, 'cpu', batch_size=0)


def test_detector_and_segmentor_predict_in_one_process(detector, segmentor, images):
    first = detector.predict(images[:1])[0]
    segmentor.predict(images[:1])
    assert_same_instances(first, detector.predict(images[:1])[0])


def test_an_own_config_is_not_changed_by_loading(cascade):
    before = cascade.config.read_text()
    load_predictor(*cascade, 'cpu')
    assert cascade.config.read_text() == before
    assert Config.fromfile(cascade.config).model.type == 'CascadeRCNN'

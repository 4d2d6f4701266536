"""What visitors get from the demo's events, without a browser: real models with random weights."""

import re

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from revcol_backbone.demo.events import FORGOTTEN, INVITATION, DemoEvents, ImageMemory
from revcol_backbone.demo.predicted_image import LARGEST_SIDE, SMALLEST_SIDE
from revcol_backbone.inference import load_predictor
from tests.configs import ROOT, build_model, load_config

CONFIGS = {
    'detector': 'det_configs/quickstart_cascade.py',
    'segmentor': 'seg_configs/quickstart_upernet.py',
}


def _load(kind, folder):
    torch.manual_seed(0)
    path = folder / f'{kind}.pth'
    model = build_model(load_config(CONFIGS[kind]))
    torch.save({'meta': {}, 'state_dict': model.state_dict()}, path)
    return load_predictor(ROOT / CONFIGS[kind], path, 'cpu')


@pytest.fixture(scope='module')
def predictors(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    return {kind: _load(kind, folder) for kind in CONFIGS}


@pytest.fixture
def detector(predictors):
    return DemoEvents(predictors['detector'])


@pytest.fixture
def segmentor(predictors):
    return DemoEvents(predictors['segmentor'])


@pytest.fixture
def image(tmp_path):
    return write_image(tmp_path / 'scene.png', 64, 96)


def write_image(path, height, width):
    small = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (width, height)))
    return str(path)


def counts(summary):
    """How many detections are shown and how many there are."""
    return tuple(map(int, re.search(r'<strong>(\d+)</strong> of (\d+)', summary).groups()))


def test_a_lower_threshold_shows_more_without_the_network(detector, image, predictors, monkeypatch):
    drawing, summary = detector.predict(image, 1.0, 'me')
    assert counts(summary)[0] == 0
    monkeypatch.setattr(type(predictors['detector']), 'predict', None)
    lower, summary = detector.redraw(0.0, 'me')
    shown, found = counts(summary)
    assert shown == found > 0
    assert sum(map(int, re.findall(r'&times; (\d+)', summary))) == shown
    assert lower.shape == drawing.shape
    assert (lower != drawing).any()


def test_small_images_are_enlarged_for_the_drawing(detector, image):
    drawing, _ = detector.predict(image, 1.0, 'me')
    assert drawing.shape == (64 * 8, SMALLEST_SIDE, 3)
    shrunk = cv2.resize(drawing, (96, 64), interpolation=cv2.INTER_AREA)
    original = cv2.imread(image)[:, :, ::-1]
    assert np.abs(shrunk.astype(int) - original).mean() < 2


def test_large_images_are_shrunk_first_and_the_page_says_so(segmentor, tmp_path):
    path = write_image(tmp_path / 'wide.png', 40, LARGEST_SIDE + 200)
    drawing, summary = segmentor.predict(path, 1.0, 'me')
    assert drawing.shape == (36, LARGEST_SIDE, 3)
    assert '2248 x 40 pixels was shrunk to 2048 x 36' in summary


def test_the_colors_fade_to_the_image(segmentor, image):
    strong, summary = segmentor.predict(image, 1.0, 'me')
    shares = [float(share) for share in re.findall(r'([\d.]+)%', summary)]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares) + 1e-6)
    none, _ = segmentor.redraw(0.0, 'me')
    half, _ = segmentor.redraw(0.5, 'me')
    assert (strong != none).any()
    assert np.abs(half - (strong.astype(float) + none) / 2).max() <= 0.5


def test_a_photo_is_seen_upright(segmentor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    Image.new('RGB', (96, 64), 'teal').save(tmp_path / 'photo.jpg', exif=exif)
    drawing, _ = segmentor.predict(str(tmp_path / 'photo.jpg'), 0.0, 'me')
    assert drawing.shape == (SMALLEST_SIDE, 512, 3)


def test_one_pixel_is_a_image_where_the_model_takes_it(detector, segmentor, tmp_path):
    path = write_image(tmp_path / 'dot.png', 1, 1)
    drawing, _ = detector.predict(path, 0.3, 'me')
    assert drawing.shape == (SMALLEST_SIDE, SMALLEST_SIDE, 3)
    drawing, summary = segmentor.predict(path, 0.3, 'me')
    assert drawing is None
    assert 'an image of 1 x 1 pixels' in summary


def test_what_is_no_image_is_told_without_folders_and_harmlessly(detector, tmp_path):
    path = tmp_path / '<b>.png'
    path.write_bytes(b'\x89PNG\r\n\x1a\nnothing')
    drawing, summary = detector.predict(str(path), 0.3, 'me')
    assert drawing is None
    assert 'role="alert"' in summary
    assert '&lt;b&gt;.png is not an image' in summary
    assert str(tmp_path) not in summary


def test_taking_the_image_away_clears_the_page(detector, image):
    detector.predict(image, 0.3, 'me')
    drawing, summary = detector.predict(None, 0.3, 'me')
    assert drawing is None
    assert INVITATION in summary
    assert detector.redraw(0.1, 'me')[0] is None


def test_who_leaves_is_forgotten_and_nobody_else(predictors, image):
    memory = ImageMemory()
    events = DemoEvents(predictors['segmentor'], memory)
    for session in ('me', 'you'):
        events.predict(image, 1.0, session)
    events.leave('me')
    events.leave('a visitor without an image')
    assert len(memory) == 1
    assert FORGOTTEN in events.redraw(1.0, 'me')[1]
    assert events.redraw(1.0, 'you')[0] is not None


def test_the_least_recent_image_makes_room():
    memory = ImageMemory(capacity=2)
    memory.keep('first', 'a')
    memory.keep('second', 'b')
    assert memory.recall('first') == 'a'
    memory.keep('third', 'c')
    assert [memory.recall(name) for name in ('first', 'second', 'third')] == ['a', None, 'c']

"""The models that the tests predict with, made once."""

import numpy as np
import pytest

from tests.inference import models


@pytest.fixture(scope='session')
def cascade(tmp_path_factory):
    return models.make_cascade(tmp_path_factory.mktemp('cascade'))


@pytest.fixture(scope='session')
def upernet(tmp_path_factory):
    return models.make_upernet(tmp_path_factory.mktemp('upernet'))


@pytest.fixture(scope='session')
def color_detector(tmp_path_factory):
    return models.make_color_detector(tmp_path_factory.mktemp('color_detector'))


@pytest.fixture(scope='session')
def color_segmentor(tmp_path_factory):
    return models.make_color_segmentor(tmp_path_factory.mktemp('color_segmentor'))


@pytest.fixture(scope='session')
def images():
    """Four images of three sizes."""
    generator = np.random.default_rng(0)
    sizes = ((96, 96), (96, 96), (70, 130), (100, 50))
    return [generator.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]

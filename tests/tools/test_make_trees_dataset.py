"""The tree-crown data set, from a small stand-in of the wheel."""

from __future__ import annotations

import json
import zipfile

import cv2
import numpy as np
import pytest

from tests.tools.commands import error_of
from tests.trees_wheel import OTHER_SIZE, make_wheel
from tools.make_trees_dataset import SCENES, clip, cut, main


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / 'deepforest.whl')


def read(path):
    return json.loads(path.read_text())


def test_three_scenes_are_for_training_and_the_fourth_is_for_the_test(wheel, tmp_path):
    out = tmp_path / 'data/trees'
    options = ['--wheel', str(wheel), '--out', str(out), '--tile', '100', '--overlap', '20']
    assert main(options) == 0
    train, val = (read(out / f'annotations/{split}.json') for split in ('train', 'val'))
    assert len(train['images']) == 3 * 2 + 1 + 1
    assert len(val['images']) == 1
    assert [entry['name'] for entry in train['categories']] == ['Tree']
    assert [entry['bbox'] for entry in val['annotations']] == [[0, 0, 20, 10], [45, 40, 20, 10]]
    scenes = read(out / 'annotations/scenes.json')
    assert scenes['annotations'] == val['annotations']
    (scene,) = (out / 'scenes').iterdir()
    assert [entry['file_name'] for entry in scenes['images']] == [scene.name]
    assert scene.stem == SCENES['val'][0]
    whole = cv2.imread(str(scene))
    assert whole.shape[:2] == OTHER_SIZE
    for split, content in (('train', train), ('val', val)):
        for entry in content['images']:
            tile = cv2.imread(str(out / 'images' / split / entry['file_name']))
            assert tile.shape[:2] == (entry['height'], entry['width'])
    assert np.array_equal(
        cv2.imread(str(out / 'images/val' / val['images'][0]['file_name'])), whole
    )


def test_tiles_cover_every_pixel_and_without_overlap_only_once():
    for overlap in (0, 30):
        count = np.zeros((260, 410), int)
        for x, y, width, height in cut(410, 260, 100, overlap):
            assert width <= 100
            assert height <= 100
            count[y : y + height, x : x + width] += 1
        assert count.min() == 1
        assert (count.max() == 1) == (overlap == 0)


def test_boxes_are_clipped_and_mostly_hidden_ones_left_out():
    boxes = [(90.0, 0.0, 30.0, 10.0), (110.0, 0.0, 30.0, 10.0), (200.0, 0.0, 9.0, 9.0)]
    assert list(clip(boxes, 100, 0, 100, 100)) == [(0.0, 0.0, 20.0, 10.0), (10.0, 0.0, 30.0, 10.0)]
    assert list(clip(boxes, 0, 0, 100, 100)) == []


def test_an_existing_folder_a_wrong_wheel_and_an_impossible_tile_are_errors(wheel, tmp_path):
    options = ('--wheel', wheel, '--out', tmp_path / 'trees')
    assert 'smaller overlap' in error_of(main, *options, '--tile', '100', '--overlap', '100')
    other = tmp_path / 'other.whl'
    with zipfile.ZipFile(other, 'w') as archive:
        archive.writestr('nothing', '')
    error = error_of(main, '--wheel', other, '--out', tmp_path / 'trees')
    assert 'the wheel has no' in error
    assert not (tmp_path / 'trees').exists()
    (tmp_path / 'trees').mkdir()
    assert 'exists; remove it' in error_of(main, *options)

"""The command that draws predicted boxes beside the true ones."""

import json

import cv2
import numpy as np
import pytest

from tests.tools.commands import error_of
from tools.compare_boxes import main


@pytest.fixture
def files(tmp_path):
    """One image, two objects; one was found twice and one box is on nothing."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((60, 80, 3), np.uint8))
    images = [{'id': 5, 'file_name': 'a.png'}]

    def write(name, boxes):
        entries = [{'image_id': 5, 'bbox': box, **more} for box, more in boxes]
        path = tmp_path / name
        path.write_text(json.dumps({'images': images, 'annotations': entries}))
        return str(path)

    truth = write('truth.json', [([10, 10, 20, 20], {}), ([50, 10, 20, 20], {})])
    found = [([11, 10, 20, 20], 0.9), ([10, 11, 20, 20], 0.8), ([0, 45, 9, 9], 0.7)]
    found.append(([50, 10, 20, 20], 0.1))
    predictions = write('found.json', [(box, {'score': score}) for box, score in found])
    return [predictions, truth, str(tmp_path)]


def test_an_object_counts_once_and_low_scores_not_at_all(files, tmp_path, capsys):
    out = tmp_path / 'new/figure.png'
    assert main([*files, '--out', str(out), '--width', '168']) == 0
    printed = capsys.readouterr().out
    assert '3 boxes of score 0.3 or more, 2 objects, 1 matched' in printed
    assert 'precision 0.33, recall 0.50' in printed
    figure = cv2.imread(str(out))
    assert figure.shape == (60, 168, 3)
    assert figure[10, 11:31].max() > 200
    assert figure[10, 88 + 10 : 88 + 30].min() > 200


def test_an_unknown_image_is_an_error_that_lists_the_known(files, tmp_path):
    error = error_of(main, *files, '--out', tmp_path / 'figure.png', '--image', 'b.png')
    assert 'b.png is not in the file; its images are a.png' in error

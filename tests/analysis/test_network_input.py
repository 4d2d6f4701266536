"""Images as a batch: which files, how they are fitted, and how they are normalized."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmseg.models import SegDataPreProcessor
from torch import nn

from revcol_backbone import RevCol
from revcol_backbone.analysis.network_input import MEAN, STD, cover, find_images, make_batch

CPU = torch.device('cpu')
ARCH = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 1, 1), 'columns': 1}


def model_with(data_preprocessor: nn.Module) -> nn.Module:
    model = nn.Module()
    model.data_preprocessor = data_preprocessor
    return model


def test_images_are_found_in_a_folder_by_a_glob_or_alone(tmp_path):
    for name in ('b.PNG', 'a.jpg', 'c.txt', 'd.tif'):
        (tmp_path / name).touch()
    (tmp_path / 'inner').mkdir()
    (tmp_path / 'inner/e.png').touch()
    assert [path.name for path in find_images(str(tmp_path))] == ['a.jpg', 'b.PNG', 'd.tif']
    assert [path.name for path in find_images(f'{tmp_path}/*/e*')] == ['e.png']
    assert [path.name for path in find_images(f'{tmp_path}/a.jpg')] == ['a.jpg']
    with pytest.raises(ValueError, match=r'nothing has no images; .* jpg'):
        find_images(f'{tmp_path}/nothing')


@pytest.mark.parametrize('size', [(40, 60), (90, 30), (7, 200), (300, 301), (100, 100)])
def test_a_image_covers_any_size(size):
    image = np.full((100, 100, 3), (10, 20, 30), np.uint8)
    fitted = cover(image, *size)
    assert fitted.shape == (*size, 3)
    assert (fitted == image[0, 0]).all()


def test_the_middle_is_kept_and_proportions_stay():
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 90:110] = 255  # a square in the middle
    fitted = cover(image, 50, 50)
    rows, columns = np.nonzero(fitted[:, :, 0] > 128)
    assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == (20, 29)


def test_a_bare_backbone_gets_rgb_with_imagenets_statistics():
    blue = np.zeros((32, 48, 3), np.uint8)
    blue[:, :, 0] = 255
    batch = make_batch(RevCol(ARCH), [blue, blue], CPU)
    assert batch.shape == (2, 3, 32, 48)
    expected = (torch.tensor([0.0, 0.0, 255.0]) - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(batch[1, :, 5, 7], expected)


@pytest.mark.parametrize('kind', [DetDataPreprocessor, SegDataPreProcessor])
def test_a_models_own_normalization_is_used(kind):
    preprocessor = kind(mean=[1.0, 2.0, 3.0], std=[2.0, 2.0, 2.0], bgr_to_rgb=True)
    image = np.zeros((32, 48, 3), np.uint8)
    cv2.rectangle(image, (0, 0), (47, 31), (7, 6, 5), -1)
    batch = make_batch(model_with(preprocessor), [image] * 3, CPU)
    assert batch.shape == (3, 3, 32, 48)
    assert batch[0, :, 0, 0].tolist() == [2.0, 2.0, 2.0]


def test_a_models_own_padding_is_used():
    preprocessors = (
        DetDataPreprocessor(pad_size_divisor=32),
        SegDataPreProcessor(test_cfg=dict(size_divisor=32)),
    )
    for preprocessor in preprocessors:
        image = np.zeros((33, 48, 3), np.uint8)
        assert make_batch(model_with(preprocessor), [image], CPU).shape == (1, 3, 64, 64)

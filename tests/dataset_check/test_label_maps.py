"""What the check says about label maps and their images."""

import pytest

from revcol_backbone.dataset_check import LAYOUTS
from tests.dataset_trees import (
    TREES,
    make_ade20k_tree,
    make_cityscapes_tree,
    only_problem,
    problems_of,
    write_image,
    write_labels,
)


@pytest.fixture
def tree(name, tmp_path):
    return TREES[name](tmp_path / name)


def test_cityscapes_without_training_labels_says_which_command_makes_them(tmp_path):
    make_cityscapes_tree(tmp_path)
    for path in (tmp_path / 'gtFine').rglob('*_labelTrainIds.png'):
        path.unlink()
    for problem in problems_of('cityscapes', tmp_path):
        assert f'CITYSCAPES_DATASET={tmp_path} csCreateTrainIdLabelImgs' in problem


@pytest.mark.parametrize(
    ('name', 'values', 'first'),
    [
        ('ade20k', (0, 151, 255), '151'),
        ('cityscapes', (0, 19, 33), '19'),
    ],
)
def test_labels_of_another_data_set_are_told(name, values, first, tree):
    path = next(iter(sorted((tree / LAYOUTS[name].splits['val'].label_maps).rglob('*.png'))))
    path = next(iter(sorted(path.parent.glob(f'*{LAYOUTS[name].label_suffix}'))))
    write_labels(path, values)
    problem = only_problem(name, tree)
    assert f'{path} holds the labels {first}, ' in problem
    assert 'another data set' in problem


def test_a_colored_label_map_is_told(tmp_path):
    make_ade20k_tree(tmp_path)
    write_image(tmp_path / 'annotations/validation/ADE_val_00000001.png')
    assert 'has 3 channels' in only_problem('ade20k', tmp_path)


def test_a_label_map_of_another_size_is_told(tmp_path):
    make_ade20k_tree(tmp_path)
    path = tmp_path / 'annotations/validation/ADE_val_00000001.png'
    write_labels(path, (0, 1), width=20)
    assert f'{path} is 20 x 40 pixels, its image 48 x 40' in only_problem('ade20k', tmp_path)


def test_images_without_label_map_and_the_reverse_are_named(tmp_path):
    make_ade20k_tree(tmp_path)
    (tmp_path / 'annotations/training/ADE_train_00000001.png').unlink()
    (tmp_path / 'images/training/ADE_train_00000002.jpg').unlink()
    labels, images = problems_of('ade20k', tmp_path, counts=(2, 2))
    assert 'ADE_train_00000001.png' in labels
    assert 'ADE_train_00000002.jpg' in images


def test_label_maps_of_the_other_split_are_told(tmp_path):
    make_ade20k_tree(tmp_path)
    (tmp_path / 'annotations/validation').rename(tmp_path / 'annotations/old')
    (tmp_path / 'annotations/training').rename(tmp_path / 'annotations/validation')
    (tmp_path / 'annotations/old').rename(tmp_path / 'annotations/training')
    for problem in problems_of('ade20k', tmp_path):
        assert 'they are of different splits' in problem

"""What the check says about label maps and their images."""

import pytest
from PIL import Image

from revcol_backbone.dataset_check import LAYOUTS, check_label_map_dataset
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
    assert f'{path} has the labels {first}, ' in problem
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


@pytest.fixture
def folders(tmp_path):
    """Three images and label maps of a data set of one's own."""
    for number in range(3):
        write_image(tmp_path / f'images/a/{number}.jpg')
        write_labels(tmp_path / f'labels/a/{number}.png', (0, 1, 255))
    return tmp_path / 'images', tmp_path / 'labels'


def problem_with(folders, **options):
    (problem,) = check_label_map_dataset(*folders, **options).problems
    return problem


def test_label_maps_of_ones_own_are_checked(folders):
    report = check_label_map_dataset(*folders, classes=2)
    assert report.problems == []
    assert report.findings == ['3 images, 3 label maps, 3 pairs decoded']


def test_faults_of_ones_own_label_maps_are_problems(folders):
    images, labels = folders
    assert 'images is not a folder' in problem_with((images / 'images', labels))
    (labels / 'a/2.png').unlink()
    assert '1 images have no partner of the same name' in problem_with(folders)
    write_labels(labels / 'a/2.png', (0, 7))
    assert '2.png has the labels 7' in problem_with(folders, classes=2)
    write_labels(labels / 'a/2.png', (0, 1), width=20)
    assert 'is 20 x 40 pixels, its image 48 x 40' in problem_with(folders)


def test_label_maps_without_any_class_are_a_problem(folders):
    for path in folders[1].rglob('*.png'):
        write_labels(path, (255,))
    assert 'none of 3 label maps has a pixel of any class' in problem_with(folders)


def test_an_image_that_training_would_rotate_away_from_its_labels_is_a_problem(folders):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (48, 40)).save(folders[0] / 'a/1.jpg', exif=exif)
    assert '1 images have an EXIF orientation (1.jpg)' in problem_with(folders)
    write_labels(folders[1] / 'a/1.png', (0, 1), width=40, height=48)
    assert check_label_map_dataset(*folders).problems == []

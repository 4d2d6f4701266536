"""What the check says about COCO-format annotations and their images."""

import json

import pytest

from revcol_backbone.dataset_check import LAYOUTS, check_dataset
from tests.dataset_trees import (
    TREES,
    coco_categories,
    cut,
    edit,
    make_coco_tree,
    make_objects365_tree,
    objects365_categories,
    only_problem,
    problems_of,
    write_annotations,
    write_image,
)


@pytest.fixture
def tree(name, tmp_path):
    return TREES[name](tmp_path / name)


@pytest.mark.parametrize(
    ('name', 'categories'),
    [
        ('coco', objects365_categories),
        ('objects365', coco_categories),
    ],
)
def test_annotations_of_another_data_set_are_told_by_their_categories(name, categories, tree):
    path = tree / LAYOUTS[name].splits['val'].annotations
    edit(path, lambda content: content.update(categories=categories()))
    problem = only_problem(name, tree)
    assert 'annotations of another data set' in problem
    assert f'{path} has' in problem
    assert 'it has 365' in problem or 'it has 80' in problem


def test_the_right_categories_under_other_ids_are_told(tmp_path):
    make_coco_tree(tmp_path)
    consecutive = [
        dict(category, id=number) for number, category in enumerate(coco_categories(), start=1)
    ]
    path = tmp_path / 'annotations/instances_val2017.json'
    edit(path, lambda content: content.update(categories=consecutive))
    assert 'under other ids (12 is stop sign, ' in only_problem('coco', tmp_path)


@pytest.mark.parametrize('name', ['coco', 'objects365'])
def test_annotations_of_the_other_split_are_told(name, tree):
    train, val = (tree / LAYOUTS[name].splits[split].annotations for split in ('train', 'val'))
    val.write_bytes(train.read_bytes())
    count, images = problems_of(name, tree)
    assert 'lists 3 images where' in count
    assert 'has none of the images' in images
    assert 'another split' in images


def test_a_split_with_the_count_of_the_other_one_is_named(tmp_path):
    make_coco_tree(tmp_path)
    names = {number: f'{number:012d}.jpg' for number in range(1, 5001)}
    write_annotations(tmp_path / 'annotations/instances_train2017.json', names, coco_categories())
    problems = check_dataset('coco', tmp_path, ('train',)).problems
    assert 'lists 5,000 images, which is the val split of COCO 2017' in problems[0]


@pytest.mark.parametrize('name', ['coco', 'objects365'])
def test_a_listed_image_that_is_not_there_is_named(name, tree):
    image = next(iter(sorted((tree / LAYOUTS[name].splits['train'].images).rglob('*.jpg'))))
    image.unlink()
    problem = only_problem(name, tree)
    assert 'lacks 1 of the images' in problem
    assert image.name in problem


def test_the_images_that_objects365_lists_without_having_them_are_not_missed(tmp_path):
    make_objects365_tree(tmp_path)
    image = 'images/v2/patch16/objects365_v2_00908726.jpg'
    edit(
        tmp_path / 'annotations/zhiyuan_objv2_train.json',
        lambda content: content['images'].append(
            {'id': 77, 'file_name': image, 'width': 4, 'height': 4}
        ),
    )
    assert problems_of('objects365', tmp_path, counts=(4, 2)) == []


def test_a_cut_annotation_file_is_told(tmp_path):
    make_coco_tree(tmp_path)
    path = tmp_path / 'annotations/instances_val2017.json'
    cut(path)
    assert f'{path} is truncated or not a JSON file' in only_problem('coco', tmp_path)


@pytest.mark.parametrize('content', [[], {'images': [], 'categories': []}])
def test_a_file_without_instance_annotations_is_told(content, tmp_path):
    make_coco_tree(tmp_path)
    (tmp_path / 'annotations/instances_val2017.json').write_text(json.dumps(content))
    assert 'has no instance annotations' in only_problem('coco', tmp_path)


def test_an_entry_without_what_the_format_asks_for_is_told(tmp_path):
    make_coco_tree(tmp_path)
    path = tmp_path / 'annotations/instances_val2017.json'
    edit(path, lambda content: content['annotations'][0].pop('image_id'))
    assert 'not in the COCO format: annotations lack or misuse image_id of 1' in only_problem(
        'coco', tmp_path
    )


@pytest.mark.parametrize(
    ('entry', 'value', 'words'),
    [
        ('category_id', 12, 'category id 12'),
        ('image_id', 5, 'image id 5'),
        ('bbox', [400, 5, 20, 10], 'outside of'),
        ('bbox', [4, 5, -20, 10], 'has no width or height'),
    ],
)
def test_an_annotation_that_fits_nothing_is_told(entry, value, words, tmp_path):
    make_coco_tree(tmp_path)
    path = tmp_path / 'annotations/instances_val2017.json'
    edit(path, lambda content: content['annotations'][0].update({entry: value}))
    assert words in only_problem('coco', tmp_path)


def test_an_image_of_another_size_than_listed_is_told(tmp_path):
    make_coco_tree(tmp_path)
    write_image(tmp_path / 'val2017/000000001001.jpg', width=20)
    assert 'is 20 x 40 pixels' in only_problem('coco', tmp_path)


def test_a_missing_image_folder_is_told(tmp_path):
    make_coco_tree(tmp_path)
    (tmp_path / 'val2017').rename(tmp_path / 'validation')
    assert f'{tmp_path / "val2017"} is missing; download' in only_problem('coco', tmp_path)

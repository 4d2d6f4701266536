"""The command that checks a data set: what it accepts, and what it says about each fault."""

import json

import pytest

from revcol_backbone.dataset_check import LAYOUTS, check_dataset
from tests.dataset_trees import (
    coco_categories,
    make_ade20k_tree,
    make_cityscapes_tree,
    make_coco_tree,
    make_objects365_tree,
    objects365_categories,
    write_annotations,
    write_image,
    write_labels,
)
from tools.check_dataset import main

TREES = {
    'coco': make_coco_tree,
    'objects365': make_objects365_tree,
    'ade20k': make_ade20k_tree,
    'cityscapes': make_cityscapes_tree,
}
every_data_set = pytest.mark.parametrize('name', TREES)


@pytest.fixture
def tree(name, tmp_path):
    return TREES[name](tmp_path / name)


def problems_of(name, root, splits=('train', 'val'), counts=(3, 2), sample=100):
    return check_dataset(name, root, splits, sample, counts).problems


def only_problem(name, root, **options):
    (problem,) = problems_of(name, root, **options)
    return problem


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@every_data_set
def test_a_complete_data_set_passes_with_exit_status_zero(name, tree, capsys):
    main([name, str(tree), '--counts', '3', '2'])
    printed = capsys.readouterr().out
    assert 'train: 3 ' in printed
    assert 'val: 2 ' in printed
    assert printed.endswith('is complete\n')


@every_data_set
def test_the_published_counts_are_expected_by_default(name, tree):
    problems = check_dataset(name, tree).problems
    numbers = [f'{split.count:,}' for split in LAYOUTS[name].splits.values()]
    assert len(problems) == 2
    for problem, found, number in zip(problems, (3, 2), numbers, strict=True):
        assert f'{found} images where' in problem
        assert number in problem


def test_the_published_counts_are_those_of_the_data_sets():
    counts = {
        name: tuple(
            split.count - len(getattr(split, 'absent', ())) for split in layout.splits.values()
        )
        for name, layout in LAYOUTS.items()
    }
    assert counts == {
        'coco': (118287, 5000),
        'objects365': (1742289, 80000),
        'ade20k': (20210, 2000),
        'cityscapes': (2975, 500),
    }


@every_data_set
def test_problems_are_numbered_and_end_in_exit_status_one(name, tree, capsys):
    with pytest.raises(SystemExit) as exit_of:
        main([name, str(tree), '--counts', '4', '2'])
    assert 'is not usable: 1 problem' in exit_of.value.code
    assert 'problem 1: ' in capsys.readouterr().out


@every_data_set
def test_an_empty_folder_is_one_sentence_that_says_where_to_get_the_data(name, tmp_path):
    problem = only_problem(name, tmp_path)
    assert 'is empty; download' in problem
    assert LAYOUTS[name].source in problem


@every_data_set
def test_a_missing_folder_is_one_sentence(name, tmp_path):
    assert 'is no folder' in only_problem(name, tmp_path / 'missing')


@every_data_set
def test_the_folder_around_the_data_set_is_told_with_the_right_one(name, tree, tmp_path):
    assert only_problem(name, tmp_path).endswith(f'; give {tree}.')


def test_another_data_set_in_the_folder_is_told_with_what_is_there(tmp_path):
    make_cityscapes_tree(tmp_path)
    assert 'nothing of COCO 2017 (there are: gtFine, leftImg8bit)' in only_problem('coco', tmp_path)


@every_data_set
def test_one_split_can_be_checked_alone(name, tree):
    assert problems_of(name, tree, splits=('val',), counts=(2,)) == []


@every_data_set
def test_a_truncated_image_is_named(name, tree):
    image = next(iter(sorted((tree / LAYOUTS[name].splits['val'].images).rglob('*.[jp][pn]g'))))
    cut(image)
    problem = only_problem(name, tree)
    assert str(image) in problem
    assert 'truncated' in problem
    assert problems_of(name, tree, sample=0) == []


@every_data_set
def test_an_empty_image_file_is_named(name, tree):
    image = next(iter(sorted((tree / LAYOUTS[name].splits['val'].images).rglob('*.[jp][pn]g'))))
    image.write_bytes(b'')
    assert f'{image} is an empty file' in only_problem(name, tree)


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
    assert f'{path} holds' in problem
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
    assert 'holds none of the images' in images
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
    assert f'{path} is truncated or no JSON file' in only_problem('coco', tmp_path)


@pytest.mark.parametrize('content', [[], {'images': [], 'categories': []}])
def test_a_file_without_instance_annotations_is_told(content, tmp_path):
    make_coco_tree(tmp_path)
    (tmp_path / 'annotations/instances_val2017.json').write_text(json.dumps(content))
    assert 'holds no instance annotations' in only_problem('coco', tmp_path)


def test_an_entry_without_what_the_format_asks_for_is_told(tmp_path):
    make_coco_tree(tmp_path)
    path = tmp_path / 'annotations/instances_val2017.json'
    edit(path, lambda content: content['annotations'][0].pop('image_id'))
    assert "not in the COCO format: an entry lacks or misuses 'image_id'" in only_problem(
        'coco', tmp_path
    )


@pytest.mark.parametrize(
    ('entry', 'value', 'words'),
    [
        ('category_id', 12, 'category id 12'),
        ('image_id', 5, 'image id 5'),
        ('bbox', [400, 5, 20, 10], 'outside of'),
        ('bbox', [4, 5, -20, 10], 'outside of'),
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


def test_a_coloured_label_map_is_told(tmp_path):
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


def test_an_option_that_makes_no_sense_is_one_sentence(tmp_path):
    for options, words in (
        (['--sample', '-1'], 'a sample of -1 images'),
        (['--counts', '3'], '1 counts were given for 2 splits'),
    ):
        with pytest.raises(SystemExit) as exit_of:
            main(['coco', str(tmp_path), *options])
        assert words in exit_of.value.code

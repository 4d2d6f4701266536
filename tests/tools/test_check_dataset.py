"""The command that checks a data set, and what every data set has in common."""

import pytest

from revcol_backbone.dataset_check import LAYOUTS, check_dataset
from tests.dataset_trees import (
    TREES,
    cut,
    make_cityscapes_tree,
    only_problem,
    problems_of,
)
from tests.tiny_data import make_coco
from tests.tools.commands import error_of
from tools.check_dataset import main

every_data_set = pytest.mark.parametrize('name', TREES)


@pytest.fixture
def tree(name, tmp_path):
    return TREES[name](tmp_path / name)


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
    assert main([name, str(tree), '--counts', '4', '2']) == 1
    output = capsys.readouterr()
    assert output.err.startswith('error: ')
    assert output.err.endswith('is not usable: 1 problem\n')
    assert 'problem 1: ' in output.out


@every_data_set
def test_an_empty_folder_is_one_sentence_that_says_where_to_get_the_data(name, tmp_path):
    problem = only_problem(name, tmp_path)
    assert 'is empty; download' in problem
    assert LAYOUTS[name].source in problem


@every_data_set
def test_a_missing_folder_is_one_sentence(name, tmp_path):
    assert 'is not a folder' in only_problem(name, tmp_path / 'missing')


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


def test_an_option_that_makes_no_sense_is_one_sentence(tmp_path):
    for options, words in (
        (['--sample', '-1'], 'a sample of -1 images'),
        (['--counts', '3'], '1 counts were given for 2 splits'),
    ):
        assert words in error_of(main, 'coco', tmp_path, *options)


def test_a_data_set_of_ones_own_is_checked_by_its_parts(tmp_path, capsys):
    make_coco(tmp_path, images=2)
    assert main(['coco-format', str(tmp_path / 'train.json'), str(tmp_path / 'train')]) == 0
    assert capsys.readouterr().out.endswith('is complete\n')
    assert main(['label-maps', str(tmp_path / 'train'), str(tmp_path / 'val'), '--classes', '2'])
    assert 'label maps has a pixel' not in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [['coco', 'a', 'b'], ['label-maps', 'a']])
def test_another_number_of_paths_is_an_error(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert 'path' in capsys.readouterr().err

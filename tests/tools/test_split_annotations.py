"""The command that splits a COCO annotation file."""

import json

import pytest

from tests.tools.commands import error_of
from tools.split_annotations import main


@pytest.fixture
def annotations(tmp_path):
    """Ten images, image n with n annotations."""
    content = {
        'categories': [{'id': 1, 'name': 'tree'}],
        'images': [{'id': 100 + n, 'file_name': f'{n}.jpg'} for n in range(10)],
        'annotations': [
            {'id': 10 * n + k, 'image_id': 100 + n} for n in range(10) for k in range(n)
        ],
    }
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(content))
    return path


def parts(path, count):
    names = (f'val_first{count}.json', f'val_after{count}.json')
    return [json.loads((path.parent / name).read_text()) for name in names]


def test_the_first_images_and_the_others_keep_their_annotations_and_the_classes(annotations):
    assert main([str(annotations), '--first', '3']) == 0
    first, after = parts(annotations, 3)
    assert [image['id'] for image in first['images']] == [100, 101, 102]
    assert [image['id'] for image in after['images']] == list(range(103, 110))
    assert [entry['id'] for entry in first['annotations']] == [10, 20, 21]
    assert len(after['annotations']) == 45 - 3
    assert first['categories'] == after['categories'] == [{'id': 1, 'name': 'tree'}]


def test_a_seed_draws_the_same_images_again_and_others_than_the_first(annotations):
    found = []
    for _ in range(2):
        assert main([str(annotations), '--first', '5', '--seed', '0']) == 0
        first, after = parts(annotations, 5)
        ids = [image['id'] for image in first['images']]
        found.append(ids)
        assert sorted(ids + [image['id'] for image in after['images']]) == list(range(100, 110))
    assert found[0] == found[1] != [100, 101, 102, 103, 104]


@pytest.mark.parametrize('count', ['0', '10', '-1'])
def test_a_part_without_images_is_an_error(count, annotations):
    assert 'give --first from 1 to 9' in error_of(main, annotations, '--first', count)
    assert list(annotations.parent.iterdir()) == [annotations]


def test_a_file_of_another_format_is_an_error(tmp_path):
    path = tmp_path / 'other.json'
    path.write_text('{"images": []}')
    assert 'has no annotations; give a COCO file' in error_of(main, path, '--first', '1')

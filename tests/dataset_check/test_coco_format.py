"""Any COCO-format data set: what would end or spoil training is found before it starts."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from revcol_backbone.dataset_check import check_coco_dataset
from revcol_backbone.dataset_check.coco_file import is_rle
from tests.tiny_data import make_coco

EXIF_ORIENTATION = 0x0112


@pytest.fixture
def tree(tmp_path):
    return make_coco(tmp_path / 'coco', images=3)


def problems_of(tree, **options):
    return check_coco_dataset(tree / 'train.json', tree / 'train', **options).problems


def problems_after(tree, change):
    path = tree / 'train.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return problems_of(tree)


def set_first(entry, **values):
    return lambda content: content[entry][0].update(values)


def make_corners(content):
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x + 40, y + 40, x + width + 40, y + height + 40]


def test_a_good_data_set_has_no_problem(tree):
    report = check_coco_dataset(tree / 'train.json', tree / 'train')
    assert report.problems == []
    (finding,) = report.findings
    assert finding.startswith('train.json: 3 images (3 of them annotated), ')
    assert 'with masks, 2 categories, 3 images decoded' in finding


BOX = 'whose box is not four finite numbers'
MASK = 'whose mask is neither polygons near the image nor a run-length encoding of its size'
CASES = {
    'infinite box': (set_first('annotations', bbox=[0, 0, float('inf'), 5]), BOX),
    'NaN box': (set_first('annotations', bbox=[float('nan'), 0, 5, 5]), BOX),
    'box of three': (set_first('annotations', bbox=[1, 2, 3]), BOX),
    'box of text': (set_first('annotations', bbox=['1', '2', '3', '4']), BOX),
    'no box': (set_first('annotations', bbox=None), 'annotations lack or misuse bbox of 1'),
    'empty box': (set_first('annotations', bbox=[5, 5, 0, 9]), 'has no width or height'),
    'outside': (set_first('annotations', bbox=[200, 5, 9, 9]), 'outside of its image'),
    'corners': (make_corners, 'they look like left, top, right, bottom'),
    'far polygon': (set_first('annotations', segmentation=[[1e9] * 6]), MASK),
    'NaN polygon': (set_first('annotations', segmentation=[[float('nan')] * 6]), MASK),
    'odd polygon': (set_first('annotations', segmentation=[[1, 2, 3, 4, 5]]), MASK),
    'RLE of another size': (
        set_first('annotations', segmentation=dict(size=[9, 9], counts=[81])),
        MASK,
    ),
    'RLE too short': (set_first('annotations', segmentation=dict(size=[96, 96], counts=[5])), MASK),
    'RLE of nonsense': (
        set_first('annotations', segmentation=dict(size=[96, 96], counts='\u00ff')),
        MASK,
    ),
    'some without mask': (set_first('annotations', segmentation=[]), 'annotations without a mask'),
    'no area': (lambda content: content['annotations'][0].pop('area'), 'lack or misuse area of 1'),
    'zero area': (set_first('annotations', area=0), 'whose area is not a positive number'),
    'no iscrowd': (lambda c: c['annotations'][0].pop('iscrowd'), 'lack or misuse iscrowd of 1'),
    'strange iscrowd': (set_first('annotations', iscrowd=7), 'iscrowd is neither 0 nor 1'),
    'all crowd': (
        lambda content: [a.update(iscrowd=1) for a in content['annotations']],
        'only annotations with iscrowd=1',
    ),
    'no annotations': (lambda content: content['annotations'].clear(), 'has no annotations'),
    'id 0': (set_first('annotations', id=0), 'the id 0, which the evaluation takes for no match'),
    'annotation twice': (
        lambda content: content['annotations'].append(content['annotations'][0]),
        'values of `id` more than once among its annotations',
    ),
    'image twice': (
        lambda content: content['images'].append(content['images'][0]),
        'values of `file_name` more than once among its images',
    ),
    'category twice': (
        lambda content: content['categories'].append(dict(id=9, name='red_box')),
        'values of `name` more than once among its categories',
    ),
    'unknown category': (set_first('annotations', category_id=77), 'category id 77'),
    'unknown image': (set_first('annotations', image_id=77), 'image id 77'),
    'no file name': (set_first('images', file_name=''), 'images lack or misuse file_name of 1'),
    'no width': (lambda content: content['images'][0].pop('width'), 'lack or misuse width of 1'),
    'missing image': (set_first('images', file_name='gone.png'), 'lacks 1 of the images'),
    'another size': (set_first('images', width=100), 'has it as 100 x 96'),
}


@pytest.mark.parametrize('case', CASES)
def test_what_would_spoil_training_is_a_problem(case, tree):
    change, words = CASES[case]
    problems = problems_after(tree, change)
    assert any(words in problem for problem in problems), problems


def test_a_fault_of_many_annotations_is_one_problem_with_their_number(tree):
    def empty(content):
        for annotation in content['annotations']:
            annotation['bbox'][2] = 0

    number = len(json.loads((tree / 'train.json').read_text())['annotations'])
    (problem,) = problems_after(tree, empty)
    assert f'has {number} annotations whose box has no width or height' in problem


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le'])
def test_a_file_that_pycocotools_cannot_read_is_a_problem(encoding, tree):
    path = tree / 'train.json'
    path.write_text(path.read_text(), encoding=encoding)
    (problem,) = problems_of(tree)
    assert 'save it as UTF-8 without a byte order mark' in problem


@pytest.mark.parametrize('content', ['', '{"images": ', '[' * 100_000, '[]', '{"images": 3}'])
def test_a_file_that_is_not_coco_is_a_problem(content, tree):
    (tree / 'train.json').write_text(content)
    (problem,) = problems_of(tree)
    assert 'train.json' in problem


def test_missing_files_are_a_problem(tmp_path):
    (problem,) = problems_of(tmp_path)
    assert f'{tmp_path}/train.json is missing' in problem


@pytest.mark.parametrize('orientation', [2, 3, 6, 8])
def test_an_image_that_training_would_rotate_away_from_its_boxes_is_a_problem(orientation, tree):
    write_with_exif(tree / 'train/000001.png', (96, 96), orientation)
    (problem,) = problems_of(tree, sample=0)
    assert '1 images have an EXIF orientation (000001.png)' in problem
    assert "color_type='color_ignore_orientation'" in problem


def test_annotations_of_the_rotated_image_are_no_problem(tree):
    write_with_exif(tree / 'train/000001.png', (96, 200), 6)
    assert problems_after(tree, lambda c: c['images'][1].update(width=200, height=96)) == []


def write_with_exif(path, size, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.new('RGB', size).save(path, exif=exif)


@pytest.mark.parametrize('size', [(1, 1), (20000, 10)])
def test_an_image_that_cannot_be_resized_is_a_problem(size, tree):
    Image.new('RGB', size).save(tree / 'train/000002.png')
    problems = problems_after(
        tree, lambda content: content['images'][2].update(width=size[0], height=size[1])
    )
    assert any(f'000002.png with {size[0]} x {size[1]}' in problem for problem in problems)


def test_a_decompression_bomb_is_a_problem(tree, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 96 * 96 // 3)
    assert all('decompression bomb' in problem for problem in problems_of(tree))


@pytest.mark.parametrize('size', [(7, 5), (300, 200)])
def test_run_length_encodings_of_pycocotools_are_whole(size):
    width, height = size
    mask = np.random.default_rng(0).random((height, width)) > 0.5
    for pixels in (mask, np.zeros_like(mask), np.ones_like(mask)):
        encoded = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
        encoded['counts'] = encoded['counts'].decode()
        assert is_rle(encoded, size)
        assert not is_rle(encoded, (height, width))
        shorter = dict(encoded, counts=encoded['counts'][:-1])
        assert not is_rle(shorter, size)

"""A data set that passes the check trains; one that does not is a problem, never a crash."""

import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset

from revcol_backbone.dataset_check import check_coco_dataset
from tests.properties.cases import cases
from tests.tiny_data import CLASSES, make_coco

ENTRIES = ('images', 'annotations', 'categories')
KEYS = (
    *('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation'),
    *('file_name', 'width', 'height', 'name'),
)
NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.floats(-300, 300),
    st.sampled_from([math.nan, math.inf, -math.inf, 0, 1e9, -1e9, 2**40]),
)
JUNK = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.lists(NUMBERS, max_size=8),
    st.lists(st.lists(NUMBERS, max_size=8), max_size=3),
    st.fixed_dictionaries(
        {
            'size': st.lists(st.integers(0, 100), max_size=3),
            'counts': st.one_of(st.text(max_size=8), st.lists(st.integers(-5, 10_000), max_size=5)),
        }
    ),
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(ENTRIES),
        st.integers(0, 5),
        st.sampled_from(['set', 'set', 'set', 'remove', 'repeat', 'drop', 'replace']),
        st.sampled_from(KEYS),
        JUNK,
    ),
    min_size=1,
    max_size=3,
)
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.Resize', scale=(64, 64), keep_ratio=True),
    dict(type='mmdet.PackDetInputs'),
]


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return make_coco(tmp_path_factory.mktemp('coco') / 'coco', images=2)


def change(content, steps):
    content = copy.deepcopy(content)
    for entry, index, kind, key, value in steps:
        items = content[entry]
        if not items:
            continue
        item = items[index % len(items)]
        if kind == 'drop':
            items.remove(item)
        elif kind == 'repeat':
            items.append(copy.deepcopy(item))
        elif kind == 'replace':
            items[index % len(items)] = value
        elif isinstance(item, dict):
            if kind == 'set':
                item[key] = value
            else:
                item.pop(key, None)
    return content


def load_all(tree, path):
    """Load what training loads: every image with its boxes and masks."""
    dataset = CocoDataset(
        data_root=str(tree),
        ann_file=str(path),
        data_prefix=dict(img='train'),
        metainfo=dict(classes=CLASSES),
        pipeline=PIPELINE,
        serialize_data=False,  # collects garbage first, for half a second
    )
    return [dataset[index] for index in range(len(dataset))]


@pytest.mark.slow
@cases(700)
@given(CHANGES)
def test_what_passes_the_check_loads_and_nothing_crashes_it(tree, steps):
    content = change(json.loads((tree / 'train.json').read_text()), steps)
    path = tree / 'changed.json'
    path.write_text(json.dumps(content))
    report = check_coco_dataset(path, tree / 'train', sample=1)
    assert all(problem.endswith('.') for problem in report.problems)
    if not report.problems:
        for sample in load_all(tree, path):
            boxes = sample['data_samples'].gt_instances.bboxes.tensor
            assert boxes.isfinite().all()


@cases(100)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_annotation_file_or_a_problem(tree, data):
    path = tree / 'bytes.json'
    path.write_bytes(data)
    assert check_coco_dataset(path, tree / 'train').problems

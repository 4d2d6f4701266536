"""The digits data set: exact ground truth, disjoint splits, deterministic, never half made."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SCRIPT = Path(__file__).parents[2] / 'tools' / 'make_digits_dataset.py'
COUNTS = {'train': 12, 'val': 6}
SIZE = 96


def load_module(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(SCRIPT.parent))  # where it finds its neighbor when it is run
make_digits = load_module(SCRIPT)
digit_scenes = sys.modules['digit_scenes']
SETTINGS = make_digits.Settings(**COUNTS, size=SIZE, seed=3)


@pytest.fixture(scope='module')
def composer():
    return make_digits.DigitsDataset(SETTINGS)


@pytest.fixture(scope='module')
def root(tmp_path_factory, composer):
    out = tmp_path_factory.mktemp('data') / 'digits'
    assert composer.write(out)
    return out


def coco_of(root: Path, split: str) -> COCO:
    return COCO(str(root / 'annotations' / f'instances_{split}.json'))


def content_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


@pytest.mark.parametrize('split', COUNTS)
def test_every_image_has_a_label_map_of_its_size(root, split):
    names = {p.stem for p in (root / 'images' / split).iterdir()}
    assert len(names) == COUNTS[split]
    assert names == {p.stem for p in (root / 'annotations' / split).iterdir()}
    for name in names:
        assert cv2.imread(str(root / f'images/{split}/{name}.jpg')).shape == (SIZE, SIZE, 3)
        label_map = cv2.imread(str(root / f'annotations/{split}/{name}.png'), -1)
        assert label_map.shape == (SIZE, SIZE)
        assert label_map.max() <= 10


@pytest.mark.parametrize('split', COUNTS)
def test_boxes_and_areas_are_those_of_the_visible_masks(root, split):
    coco = coco_of(root, split)
    for annotation in coco.dataset['annotations']:
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        box = [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        assert annotation['bbox'] == box
        assert annotation['area'] == mask.sum()
        assert annotation['iscrowd'] == 0


@pytest.mark.parametrize('split', COUNTS)
def test_the_label_map_is_the_union_of_disjoint_masks(root, split):
    coco = coco_of(root, split)
    for image in coco.dataset['images']:
        expected = np.zeros((SIZE, SIZE), int)
        for annotation in coco.imgToAnns[image['id']]:
            expected += coco.annToMask(annotation) * annotation['category_id']
            assert coco.cats[annotation['category_id']]['name'] == str(
                digit_scenes.load_digits().target[annotation['source_digit']]
            )
        path = root / 'annotations' / split / f'{Path(image["file_name"]).stem}.png'
        # Two overlapping masks would add up to another class.
        np.testing.assert_array_equal(cv2.imread(str(path), -1), expected)


@pytest.mark.parametrize('split', COUNTS)
def test_masks_are_where_the_digits_were_drawn(composer, split):
    for index in range(COUNTS[split]):
        scene = composer.scene(split, index)
        union = scene.label_map > 0
        far = cv2.dilate(union.astype(np.uint8), np.ones((3, 3))) == 0
        np.testing.assert_array_equal(scene.image[far], scene.background[far])
        for instance in scene.instances:
            inside = cv2.erode(instance.mask.astype(np.uint8), np.ones((3, 3))) > 0
            assert (scene.image[inside] == instance.color).all()


def test_digits_overlap_but_enough_of_each_stays_visible(composer):
    scenes = [composer.scene('train', index) for index in range(60)]
    instances = [instance for scene in scenes for instance in scene.instances]
    smallest = digit_scenes.MIN_AREA * SIZE * SIZE
    assert min(instance.mask.sum() for instance in instances) >= smallest
    assert sum(map(_has_touching_digits, scenes)) > len(scenes) / 4


def test_validation_digits_are_never_seen_in_training(root):
    sources = {
        split: {a['source_digit'] for a in coco_of(root, split).dataset['annotations']}
        for split in COUNTS
    }
    assert sources['train']
    assert sources['val']
    assert not sources['train'] & sources['val']


def test_every_source_digit_belongs_to_one_split(composer):
    drawn = {
        s: {i.source for k in range(80) for i in composer.scene(s, k).instances} for s in COUNTS
    }
    assert not drawn['train'] & drawn['val']


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(root, tmp_path):
    again = make_digits.DigitsDataset(SETTINGS)
    again.write(tmp_path / 'again')
    assert content_of(tmp_path / 'again') == content_of(root)
    other = make_digits.DigitsDataset(make_digits.Settings(**COUNTS, size=SIZE, seed=4))
    assert (other.scene('train', 0).image != again.scene('train', 0).image).any()


def test_pycocotools_scores_the_ground_truth_as_perfect(root):
    coco = coco_of(root, 'val')
    results = [
        {k: a[k] for k in ('image_id', 'category_id', 'bbox', 'segmentation')} | {'score': 1.0}
        for a in coco.dataset['annotations']
    ]
    for kind in ('bbox', 'segm'):
        evaluation = COCOeval(coco, coco.loadRes([dict(r) for r in results]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)


def test_the_command_keeps_a_finished_data_set(root):
    before = content_of(root)
    run = _run(root, '--seed', '3')
    assert run.returncode == 0
    assert 'there already' in run.stdout
    assert content_of(root) == before


def test_the_command_refuses_a_folder_made_with_other_settings(root):
    run = _run(root, '--seed', '4')
    assert run.returncode != 0
    assert '--out' in run.stderr


def test_the_command_refuses_a_folder_that_is_something_else(tmp_path):
    (tmp_path / 'precious.txt').write_text('mine')
    run = _run(tmp_path, '--seed', '3')
    assert run.returncode != 0
    assert 'not a data set of this tool' in run.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['precious.txt']


def test_a_failure_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    composer = make_digits.DigitsDataset(SETTINGS)
    scene = composer.scene

    def fail_late(split, index):
        if split == 'val':
            raise KeyboardInterrupt
        return scene(split, index)

    monkeypatch.setattr(composer, 'scene', fail_late)
    with pytest.raises(KeyboardInterrupt):
        composer.write(tmp_path / 'digits')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('wrong', [{'train': 0}, {'val': 0}, {'size': 32}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))}={next(iter(wrong.values()))}'):
        make_digits.Settings(**wrong)


def _has_touching_digits(scene) -> bool:
    masks = [instance.mask.astype(np.uint8) for instance in scene.instances]
    grown = sum(cv2.dilate(mask, np.ones((3, 3))) for mask in masks)
    return bool((grown > 1).any())


def _run(out: Path, *arguments: str) -> subprocess.CompletedProcess:
    counts = [f'--{name}={count}' for name, count in COUNTS.items()]
    command = [sys.executable, str(SCRIPT), f'--out={out}', f'--size={SIZE}', *counts, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)

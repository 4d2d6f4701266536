"""Data that cannot be right stop a training before its first epoch, in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.runner import Runner
from mmpretrain import datasets
from PIL import Image

from revcol_backbone.pretraining.dataset_check_hook import (
    check_classes,
    check_images,
    check_same_classes,
)
from tests.pretraining.image_folders import make_image_folder
from tests.pretraining.tiny_runs import tiny_classifier


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_image_folder(tmp_path / 'images')


def folder(path: Path) -> object:
    return datasets.CustomDataset(data_prefix=str(path))


def test_three_classes_fit_heads_of_three_and_more(root: Path) -> None:
    for head in (3, 4, None):
        check_classes(folder(root / 'train'), head)


def test_a_folder_with_one_class(root: Path) -> None:
    for name in ('green', 'red'):
        (root / 'train' / name).rename(root / name)
    with pytest.raises(ValueError, match='train has images of one class only'):
        check_classes(folder(root / 'train'), 3)


def test_more_classes_than_the_head_has(root: Path) -> None:
    with pytest.raises(ValueError, match=r'train has 3 classes \(labels 0 to 2\).* head has 2'):
        check_classes(folder(root / 'train'), 2)


@pytest.mark.parametrize('labels', ['0 1 3', '1 2 3', '-1 0 1'])
def test_labels_of_a_list_beyond_the_head(root: Path, labels: str) -> None:
    first, *rest = (f'x{label}.png {label}' for label in labels.split())
    (root / 'list.txt').write_text('\n'.join([first, *rest]))
    listed = datasets.CustomDataset(ann_file=str(root / 'list.txt'), data_prefix=str(root))
    with pytest.raises(ValueError, match='count labels from 0'):
        check_classes(listed, 3)


def test_validation_with_other_classes(root: Path) -> None:
    (root / 'val' / 'green').rename(root / 'val' / 'yellow')
    with pytest.raises(ValueError, match='only one of them has green, yellow'):
        check_same_classes(folder(root / 'train'), folder(root / 'val'))


def test_unreadable_images_are_all_listed(root: Path) -> None:
    jpeg = root / 'train' / 'red' / 'cut.jpg'
    Image.new('RGB', (300, 300), 'red').save(jpeg, quality=95)
    jpeg.write_bytes(jpeg.read_bytes()[:-200])
    (root / 'train' / 'red' / 'text.png').write_text('no picture')
    (root / 'train' / 'blue' / 'empty.png').touch()
    dataset = folder(root / 'train')
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    with pytest.raises(ValueError, match=r'3 of 9 images cannot be decoded: .*replace') as error:
        check_images(paths)
    assert all(name in str(error.value) for name in ('cut.jpg', 'text.png', 'empty.png'))
    check_images([path for path in paths if Path(path).stem not in ('cut', 'text', 'empty')])


@pytest.mark.parametrize('name', ['revcol_t_in1k', 'custom_image_folder'])
def test_a_training_stops_before_its_first_step(tmp_path: Path, name: str) -> None:
    config = tiny_classifier(name, tmp_path)
    broken = tmp_path / 'images' / 'val' / 'red' / 'red0.png'
    broken.write_bytes(broken.read_bytes()[:40])
    config.experiment_name = f'{tmp_path.name}_{name}'
    runner = Runner.from_cfg(config)
    with pytest.raises(ValueError, match=r'1 of 12 images cannot be decoded: .*red0\.png'):
        runner.train()
    assert runner.iter == 0

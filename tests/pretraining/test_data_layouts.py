"""An image folder, plain lists and ImageNet's own layout give the same images and labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, DefaultScope

from revcol_backbone import pretraining  # noqa: F401
from tests.configs import load_config
from tests.pretraining.image_folders import CLASSES, make_image_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_image_folder(tmp_path / 'images')


def flatten(root: Path, split: str, folder: Path, listing: Path) -> None:
    """Move a split's images into one folder and write their labels into a list."""
    folder.mkdir(parents=True)
    listing.parent.mkdir(exist_ok=True)
    lines = []
    for label, name in enumerate(CLASSES):
        for path in sorted((root / split / name).iterdir()):
            path.rename(folder / path.name)
            lines.append(f'{path.name} {label}')
        (root / split / name).rmdir()
    listing.write_text('\n'.join(lines) + '\n')


def images_of(dataset: ConfigDict) -> list[tuple[str, int, tuple[int, ...]]]:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = DATASETS.build(dataset)
        return sorted(
            (
                Path(built.get_data_info(index)['img_path']).name,
                built.get_data_info(index)['gt_label'],
                tuple(built[index]['inputs'].shape),
            )
            for index in range(len(built))
        )


EXPECTED = sorted(
    (f'{name}{index}.png', label, (3, 224, 224))
    for label, name in enumerate(CLASSES)
    for index in range(2)
)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_an_image_folder(root: Path, split: str) -> None:
    dataset = load_config('cls_configs/custom_image_folder.py')[f'{split}_dataloader'].dataset
    assert images_of(dict(dataset, data_root=str(root))) == EXPECTED


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_plain_list(root: Path, split: str) -> None:
    flatten(root, split, root / 'images', root / f'{split}.txt')
    dataset = load_config('cls_configs/custom_image_list.py')[f'{split}_dataloader'].dataset
    assert images_of(dict(dataset, data_root=str(root))) == EXPECTED


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('is_flat', [False, True])
def test_imagenets_own_layout(root: Path, split: str, is_flat: bool) -> None:
    if is_flat:
        flatten(root, split, root / split / 'flat', root / 'meta' / f'{split}.txt')
        for path in (root / split / 'flat').iterdir():
            path.rename(root / split / path.name)
    dataset = load_config('cls_configs/revcol_t_in1k.py')[f'{split}_dataloader'].dataset
    metainfo = dict(classes=CLASSES)  # in the place of a thousand names
    assert images_of(dict(dataset, data_root=str(root), metainfo=metainfo)) == EXPECTED


def test_the_template_trains_on_its_number_of_classes() -> None:
    for name in ('custom_image_folder', 'custom_image_list'):
        config = load_config(f'cls_configs/{name}.py')
        assert config.model.num_classes == config.num_classes == 10
        assert config.val_evaluator.topk == (1, 5)
        assert config.test_dataloader == config.val_dataloader

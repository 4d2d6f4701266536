"""The templates for a user's own data, filled in and made small enough to run in a test."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config

from tests.configs import ROOT, build_model
from tests.tiny_models import shrink, tiny_config


def fill_in(template: str, target: Path, *changes: tuple[str, str], added: str = '') -> Path:
    """Copy a template as a user does, with other text in the places of ``changes``."""
    text = (ROOT / template).read_text()
    folder = (ROOT / template).parent
    for old, new in (("\n_base_ = './", f"\n_base_ = '{folder}/"), *changes):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    target.write_text(text + added)
    return target


def small(path: Path, folder: Path) -> Config:
    """Read a config and make it train one epoch, or two iterations, of its model's small copy."""
    config = Config.fromfile(path)
    shrink(config)
    make_quick(config)
    config.work_dir = str(folder / 'work')
    return config


def make_quick(config: Config) -> None:
    """Small images, one process and a short training."""
    is_detector = config.default_scope == 'mmdet'
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False)
    train = config.train_dataloader.dataset
    while 'dataset' in train:
        train = train.dataset
    if is_detector:
        train.pipeline = [
            *train.pipeline[:2],
            dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='PackDetInputs'),
        ]
        config.train_cfg.max_epochs = 1
    else:
        train.pipeline[3].crop_size = (64, 64)
        config.model.data_preprocessor.size = (64, 64)
        config.train_cfg.update(max_iters=2, val_interval=2)
    for split in ('val', 'test'):
        config[f'{split}_dataloader'].dataset.pipeline[1].scale = (64, 64)


def write_published(path: str, file: Path) -> Path:
    """Write a file laid out as the published fine-tuned ones, of a small copy of a config."""
    torch.manual_seed(0)
    model = build_model(tiny_config(path))
    meta = dict(epoch=36, CLASSES=('some', 'others'), config='')
    torch.save({'meta': meta, 'state_dict': model.state_dict(), 'optimizer': {}}, file)
    return file

"""Configs of this project that train a tiny classifier in seconds."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from tests.configs import load_config
from tests.pretraining.image_folders import CLASSES, make_image_folder

TINY = dict(channels=(8, 16, 24, 32), layers=(1, 1, 1, 1), columns=4)
SIZE = 32


def tiny_classifier(name: str, folder: Path, **model) -> Config:
    """A config's training of two epochs on three classes, in ``folder``."""
    config = load_config(f'cls_configs/{name}.py')
    root = folder / 'images'
    if not root.exists():
        make_image_folder(root)
    config.model.update(arch=TINY, num_classes=len(CLASSES), init_cfg=None, **model)
    for split in ('train', 'val', 'test'):
        loader = config[f'{split}_dataloader']
        loader.dataset.pop('split', None)
        loader.dataset.update(
            type='CustomDataset',
            data_root=str(root),
            data_prefix='train' if split == 'train' else 'val',
        )
        loader.dataset.pipeline[1].size = SIZE
        loader.update(
            batch_size=2,
            num_workers=0,
            persistent_workers=False,
            pin_memory=False,
            collate_fn=dict(type='default_collate'),
        )
    for split in ('val', 'test'):
        config[f'{split}_evaluator'].topk = (1, 2)
    config.train_cfg.max_epochs = 2
    config.param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False)]
    config.optim_wrapper.optimizer.lr = 0.2  # 512 times as much as is used for a batch of 2
    config.default_hooks.logger.interval = 1
    config.work_dir = str(folder / 'work')
    return config

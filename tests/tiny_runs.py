"""Configs of this project that train and test in seconds: shrunk models on a few small images."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from tests.tiny_data import CLASSES, make_ade20k, make_coco
from tests.tiny_models import set_classes, tiny_config

SIDE = 64


def tiny_detector(name: str, folder: Path, images: int = 2) -> Config:
    """A Cascade Mask R-CNN that trains and tests in ``folder``, where this writes its data."""
    config = tiny_config(f'det_configs/{name}.py')
    set_classes(config, len(CLASSES))
    config.model.test_cfg.rcnn.max_per_img = 5
    data = make_coco(folder / 'coco', images)
    for split in ('train', 'val', 'test'):
        source = 'train' if split == 'train' else 'val'
        config[f'{split}_dataloader'].dataset.update(
            data_root=str(data),
            ann_file=f'{source}.json',
            data_prefix=dict(img=source),
            metainfo=dict(classes=CLASSES),
        )
    for split in ('val', 'test'):
        config[f'{split}_evaluator'].ann_file = str(data / 'val.json')
    config.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='Resize', scale=(SIDE, SIDE), keep_ratio=True),
        dict(type='PackDetInputs'),
    ]
    config.train_cfg.max_epochs = 1
    return _finish(config, folder)


def tiny_segmentor(name: str, folder: Path, images: int = 2) -> Config:
    """A UPerNet that trains two iterations and tests in ``folder``, as for detectors."""
    config = tiny_config(f'seg_configs/{name}.py')
    data = make_ade20k(folder / 'ade', images)
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.data_root = str(data)
    config.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', reduce_zero_label=True),
        dict(type='RandomCrop', crop_size=(SIDE, SIDE)),
        dict(type='PackSegInputs'),
    ]
    config.model.data_preprocessor.size = (SIDE, SIDE)
    config.train_dataloader.batch_size = 2  # batch norms cannot train on one pooled pixel
    config.train_cfg.update(max_iters=2, val_interval=2)
    return _finish(config, folder)


def _finish(config: Config, folder: Path) -> Config:
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False)
    for split in ('val', 'test'):
        config[f'{split}_dataloader'].dataset.pipeline[1].scale = (SIDE, SIDE)
    for number, resize in enumerate(config.tta_pipeline[1].transforms[0]):
        resize.scale = (SIDE + 16 * number, SIDE + 16 * number)
    config.work_dir = str(folder / 'work')
    return config


def on_cpu_processes(config: Config) -> Config:
    """What has to be set to launch several processes on a machine without a GPU."""
    config.custom_imports.imports = [*config.custom_imports.imports, 'tests.cpu_processes']
    config.env_cfg.dist_cfg.backend = 'gloo'
    # `FlexibleRunner` has no such field; its strategy wraps the model.
    config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    return config

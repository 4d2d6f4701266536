"""Small models to predict with: a config and a checkpoint, as files."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config

from tests.inference import color_models
from tests.tiny_data import CLASSES
from tests.tiny_models import (
    CASCADE,
    UPERNET,
    ModelFiles,
    set_classes,
    tiny_config,
    write_files,
    write_model,
)

SIDE = 64  # what the models of RevCol resize images to


def make_cascade(folder: Path) -> ModelFiles:
    """A shrunk Cascade Mask R-CNN of RevCol with initial weights and test-time augmentation."""
    config = tiny_config(CASCADE)
    set_classes(config, len(CLASSES))
    config.model.test_cfg.rcnn.max_per_img = 5
    config.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    return save(config, folder)


def make_upernet(folder: Path) -> ModelFiles:
    """A shrunk UPerNet of RevCol with initial weights and test-time augmentation."""
    config = tiny_config(UPERNET)
    set_classes(config, len(CLASSES))
    config.test_dataloader.dataset.update(
        type='BaseSegDataset', metainfo=dict(classes=CLASSES), reduce_zero_label=False
    )
    return save(config, folder)


def make_color_detector(folder: Path) -> ModelFiles:
    """A detector that finds every red and blue box exactly."""
    return _save_color_model('mmdet', 'ColorDetector', {'threshold': 0.9}, folder)


def make_color_segmentor(folder: Path) -> ModelFiles:
    """A segmentor that tells red from blue pixels exactly."""
    return _save_color_model('mmseg', 'ColorSegmentor', {'decode_head.scale': 5.0}, folder)


def make_blue_segmentor(folder: Path) -> ModelFiles:
    """A segmentor of one output channel, with flips as test-time augmentation."""
    files = _save_color_model('mmseg', 'ColorSegmentor', {'decode_head.scale': 50.0}, folder)
    config = Config.fromfile(files.config)
    config.model.out_channels = 1
    load, pack = config.test_dataloader.dataset.pipeline
    pack.meta_keys = (*pack.meta_keys, 'flip', 'flip_direction')
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    config.tta_model = dict(type='SegTTAModel')
    config.tta_pipeline = [load, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    config.dump(files.config)
    return files


def save(config: Config, folder: Path) -> ModelFiles:
    """Let images be resized to 64 pixels, and write the config and its initial weights."""
    config.test_dataloader.dataset.pipeline[1].scale = (SIDE, SIDE)
    scales = config.tta_pipeline[1].transforms[0]
    config.tta_pipeline[1].transforms[0] = scales[:2]
    for resize, side in zip(config.tta_pipeline[1].transforms[0], (SIDE, 96), strict=True):
        resize.scale = (side, side)
    return write_model(config, folder)


def _save_color_model(package: str, kind: str, weights: dict, folder: Path) -> ModelFiles:
    pack = 'PackDetInputs' if package == 'mmdet' else 'PackSegInputs'
    preprocessor = 'DetDataPreprocessor' if package == 'mmdet' else 'SegDataPreProcessor'
    dataset = 'CocoDataset' if package == 'mmdet' else 'BaseSegDataset'
    meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape')
    config = Config(
        dict(
            default_scope=package,
            custom_imports=dict(imports=[color_models.__name__]),
            model=dict(type=kind, data_preprocessor=dict(type=preprocessor)),
            test_dataloader=dict(
                dataset=dict(
                    type=dataset,
                    metainfo=dict(classes=CLASSES),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type=pack, meta_keys=meta_keys),
                    ],
                )
            ),
        )
    )
    return write_files(
        config, {key: torch.tensor([value]) for key, value in weights.items()}, folder
    )

"""Small models to predict with: a config and a checkpoint, as files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config

from tests.configs import build_model, load_config
from tests.det_configs.test_cascade import shrink as shrink_detector
from tests.inference import colour_models
from tests.seg_configs.test_upernet import shrink as shrink_segmentor
from tests.tiny_data import CLASSES

SIDE = 64  # what the models of RevCol resize pictures to


class ModelFiles(NamedTuple):
    config: Path
    checkpoint: Path


def make_cascade(folder: Path) -> ModelFiles:
    """A shrunk Cascade Mask R-CNN of RevCol with initial weights and test-time augmentation."""
    config = load_config('det_configs/revcol_t_cascade.py')
    shrink_detector(config)
    config.model.test_cfg.rcnn.max_per_img = 5
    for head in (*config.model.roi_head.bbox_head, config.model.roi_head.mask_head):
        head.num_classes = len(CLASSES)
    config.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    return save(config, folder)


def make_upernet(folder: Path) -> ModelFiles:
    """A shrunk UPerNet of RevCol with initial weights and test-time augmentation."""
    config = load_config('seg_configs/revcol_t_upernet.py')
    shrink_segmentor(config)
    for head in (config.model.decode_head, config.model.auxiliary_head):
        head.num_classes = len(CLASSES)
    config.test_dataloader.dataset.update(
        type='BaseSegDataset', metainfo=dict(classes=CLASSES), reduce_zero_label=False
    )
    return save(config, folder)


def make_colour_detector(folder: Path) -> ModelFiles:
    """A detector that finds every red and blue box exactly."""
    return _save_colour_model('mmdet', 'ColourDetector', {'threshold': 0.9}, folder)


def make_colour_segmentor(folder: Path) -> ModelFiles:
    """A segmentor that tells red from blue pixels exactly."""
    return _save_colour_model('mmseg', 'ColourSegmentor', {'decode_head.scale': 5.0}, folder)


def make_blue_segmentor(folder: Path) -> ModelFiles:
    """A segmentor of one output channel, with flips as test-time augmentation."""
    files = _save_colour_model('mmseg', 'ColourSegmentor', {'decode_head.scale': 50.0}, folder)
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
    """Let pictures be resized to 64 pixels, and write the config and its initial weights."""
    config.test_dataloader.dataset.pipeline[1].scale = (SIDE, SIDE)
    scales = config.tta_pipeline[1].transforms[0]
    config.tta_pipeline[1].transforms[0] = scales[:2]
    for resize, side in zip(config.tta_pipeline[1].transforms[0], (SIDE, 96), strict=True):
        resize.scale = (side, side)
    torch.manual_seed(0)
    return _write(config, build_model(config).state_dict(), folder)


def _save_colour_model(package: str, kind: str, weights: dict, folder: Path) -> ModelFiles:
    pack = 'PackDetInputs' if package == 'mmdet' else 'PackSegInputs'
    preprocessor = 'DetDataPreprocessor' if package == 'mmdet' else 'SegDataPreProcessor'
    dataset = 'CocoDataset' if package == 'mmdet' else 'BaseSegDataset'
    meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape')
    config = Config(
        dict(
            default_scope=package,
            custom_imports=dict(imports=[colour_models.__name__]),
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
    return _write(config, {key: torch.tensor([value]) for key, value in weights.items()}, folder)


def _write(config: Config, weights: dict[str, torch.Tensor], folder: Path) -> ModelFiles:
    folder.mkdir(parents=True, exist_ok=True)
    files = ModelFiles(folder / 'config.py', folder / 'model.pth')
    config.dump(files.config)
    torch.save({'state_dict': weights, 'meta': {}}, files.checkpoint)
    return files

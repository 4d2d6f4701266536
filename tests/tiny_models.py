"""Small copies of this project's models, a few channels wide, and input for them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from tests.configs import TINY, build_model, load_config, use_tiny_backbone

CASCADE, UPERNET = 'det_configs/revcol_t_cascade.py', 'seg_configs/revcol_t_upernet.py'
HEIGHT, WIDTH = 64, 96  # of the images in a batch


class ModelFiles(NamedTuple):
    config: Path
    checkpoint: Path


def tiny_config(path: str) -> Config:
    """A shrunk copy of a config of this project."""
    config = load_config(path)
    shrink(config)
    return config


def tiny_vit_config(path: str) -> Config:
    """A shrunk copy of a config with a RevCol-ViT."""
    config = load_config(path)
    backbone = config.model.backbone
    config.model.backbone = dict(type='RevCol', arch='tiny')
    shrink(config)
    width = 32
    arch = dict(width=width, layers=(1, 1, 1, 1), heads=2, columns=2)
    config.model.backbone = {**backbone, 'arch': arch}
    widths = [width // 4, width // 2, width, width]
    if 'neck' in config.model and config.model.neck:
        config.model.neck.in_channels = widths
    else:
        config.model.decode_head.in_channels = widths
        config.model.auxiliary_head.in_channels = width
    return config


def write_config(path: str, file: Path) -> Path:
    """Write a shrunk copy of a config of this project, with all its classes, to ``file``."""
    tiny_config(path).dump(file)
    return file


def write_backbone(folder: Path, **changes: object) -> Path:
    """Write the config of a bare RevCol."""
    path = folder / 'backbone.py'
    model = dict(type='RevCol', arch=TINY, **changes)
    path.write_text(f"custom_imports = dict(imports=['revcol_backbone'])\nmodel = {model}\n")
    return path


def write_model(config: Config, folder: Path) -> ModelFiles:
    """Write a config and initial weights of its model."""
    torch.manual_seed(0)
    return write_files(config, build_model(config).state_dict(), folder)


def write_trained_model(config: Config, folder: Path) -> ModelFiles:
    """Write a config and a checkpoint in which every weight matters."""
    torch.manual_seed(0)
    model = build_model(config)
    for name, parameter in model.named_parameters():
        if 'gamma' in name or 'alpha' in name:
            torch.nn.init.normal_(parameter, std=0.5)
        elif parameter.ndim > 1:
            torch.nn.init.xavier_normal_(parameter)
    return write_files(config, model.state_dict(), folder)


def write_files(config: Config, weights: dict[str, Tensor], folder: Path) -> ModelFiles:
    """Write a config and a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ModelFiles(folder / 'config.py', folder / 'model.pth')
    config.dump(files.config)
    torch.save({'state_dict': weights, 'meta': {}}, files.checkpoint)
    return files


def set_classes(config: Config, count: int) -> None:
    """Give every head of a Cascade R-CNN or a UPerNet another number of classes."""
    model = config.model
    if 'roi_head' in model:
        heads = [*model.roi_head.bbox_head, model.roi_head.get('mask_head')]
    else:
        heads = [model.decode_head, model.auxiliary_head]
    for head in filter(None, heads):
        head.num_classes = count


def shrink(config: Config) -> None:
    """Keep the structure of the model, with a few channels, proposals, queries and points."""
    model = config.model
    if model.type == 'DINO':
        _shrink_dino(config)
    elif 'roi_head' in model:
        _shrink_cascade(config)
    elif model.decode_head.type == 'Mask2FormerHead':
        _shrink_mask2former(config)
    else:
        _shrink_upernet(config)


def detection_batch() -> tuple[Tensor, list]:
    """Two images with one object each, and label maps of stuff."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for label in range(2):
        mask = np.zeros((1, HEIGHT, WIDTH), np.uint8)
        mask[0, 10:50, 20:60] = 1
        sample = DetDataSample(metainfo=dict(_sizes(), scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[20.0, 10.0, 60.0, 50.0]]),
            labels=torch.tensor([label]),
            masks=BitmapMasks(mask, HEIGHT, WIDTH),
        )
        sample.gt_sem_seg = PixelData(sem_seg=torch.randint(0, 183, (1, HEIGHT, WIDTH)))
        samples.append(sample)
    return torch.rand(2, 3, HEIGHT, WIDTH), samples


def segmentation_batch() -> tuple[Tensor, list]:
    """Two images with one label map each, a part of it ignored."""
    from mmseg.structures import SegDataSample

    samples = []
    for label in range(2):
        labels = torch.full((1, HEIGHT, WIDTH), label)
        labels[:, :8] = 255
        samples.append(SegDataSample(metainfo=_sizes(), gt_sem_seg=PixelData(data=labels)))
    return torch.rand(2, 3, HEIGHT, WIDTH), samples


def _sizes() -> dict[str, tuple[int, int]]:
    names = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    return dict.fromkeys(names, (HEIGHT, WIDTH))


def _shrink_cascade(config: Config) -> None:
    model, roi_head = config.model, config.model.roi_head
    use_tiny_backbone(config)
    model.neck.update(in_channels=TINY['channels'], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    for name in ('bbox_roi_extractor', 'mask_roi_extractor', 'semantic_roi_extractor'):
        if roi_head.get(name):
            roi_head[name].out_channels = 16
    masks = roi_head.get('mask_head')
    masks = masks if isinstance(masks, list) else [masks]
    for head in filter(None, [*masks, roi_head.get('semantic_head')]):
        head.update(in_channels=16, conv_out_channels=16)
    for head in roi_head.bbox_head:
        head.update(in_channels=16, conv_out_channels=16, fc_out_channels=32)
        head.norm_cfg.type = 'BN'
    for stage in model.train_cfg.rcnn:
        stage.sampler.num = 16
    model.test_cfg.rpn.max_per_img = 50
    model.test_cfg.rcnn.score_thr = 0.0


def _shrink_dino(config: Config) -> None:
    model = config.model
    outputs = model.backbone.get('out_indices', (0, 1, 2, 3))
    use_tiny_backbone(config)
    model.num_queries = 20
    model.neck.in_channels = [TINY['channels'][index] for index in outputs]
    for part in (model.encoder, model.decoder):  # mmdet fixes their width at 256
        part.num_layers = 2
        part.layer_cfg.ffn_cfg.feedforward_channels = 64
    model.dn_cfg.group_cfg.num_dn_queries = 10
    model.test_cfg.max_per_img = 20


def _shrink_upernet(config: Config) -> None:
    model = config.model
    use_tiny_backbone(config)
    model.decode_head.update(in_channels=TINY['channels'], channels=16)
    model.auxiliary_head.update(in_channels=TINY['channels'][2], channels=8)
    for head in (model.decode_head, model.auxiliary_head):
        head.norm_cfg.type = 'BN'
    model.test_cfg.update(crop_size=(64, 64), stride=(42, 42))


def _shrink_mask2former(config: Config) -> None:
    use_tiny_backbone(config)
    head, width = config.model.decode_head, 32
    head.update(in_channels=TINY['channels'], feat_channels=width, out_channels=width)
    head.num_queries = 10
    head.train_cfg.num_points = 256
    head.positional_encoding.num_feats = width // 2
    head.pixel_decoder.positional_encoding.num_feats = width // 2
    for part in (head.pixel_decoder.encoder, head.transformer_decoder):
        part.num_layers = 2
        for key, layer in part.layer_cfg.items():
            if key.endswith('_cfg'):
                layer.embed_dims = width
            if key.endswith('_attn_cfg'):
                layer.num_heads = 8
        part.layer_cfg.ffn_cfg.feedforward_channels = 2 * width

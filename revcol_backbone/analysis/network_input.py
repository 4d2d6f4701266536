"""Batches of images of any size, normalized as the config of a model says."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.model import ImgDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from revcol_backbone.inference.media import IMAGE_EXTENSIONS
from revcol_backbone.revcol import RevCol

# For a bare backbone: RGB, ImageNet's, as in all of this project's configs.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def find_images(source: str) -> list[Path]:
    """Return the images of a folder, a glob or a single file, sorted by name.

    Raises:
        ValueError: There are none.
    """
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_EXTENSIONS]
    else:
        found = [path] if path.is_file() else [Path(name) for name in glob.glob(source)]
    if not found:
        raise ValueError(
            f'{source} has no images; give an image, a folder or a quoted glob of '
            f'{", ".join(extension[1:] for extension in IMAGE_EXTENSIONS)} files.'
        )
    return sorted(found)


def cover(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image to cover a size, keeping its aspect ratio, and crop the center.

    Args:
        image: Shape (H, W, 3).
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        Shape (height, width, 3).
    """
    scale = max(height / image.shape[0], width / image.shape[1])
    rows, columns = (round(side * scale) for side in image.shape[:2])
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (max(columns, width), max(rows, height)), interpolation=smooth)
    top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
    return np.ascontiguousarray(resized[top : top + height, left : left + width])


def make_batch(model: nn.Module, images: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Make the input of a model's backbone from images of one size.

    Args:
        model: A detector or segmentor, whose ``data_preprocessor`` normalizes and pads; a bare
            backbone, and a classifier, whose pipeline normalizes, get RGB with ImageNet's mean and
            standard deviation.
        images: BGR, uint8, all of shape (H, W, 3).
        device: Device of the model.

    Returns:
        Shape (B, 3, H, W), or larger where the config pads.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    if preprocessor is None or isinstance(model, RevCol):
        preprocessor = ImgDataPreprocessor(mean=MEAN, std=STD, bgr_to_rgb=True).to(device)
    inputs = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    samples = [BaseDataElement(metainfo={'img_shape': image.shape[:2]}) for image in images]
    return preprocessor({'inputs': inputs, 'data_samples': samples}, False)['inputs']


def describe_batch(batch: Tensor) -> list[dict]:
    """Return the ``metainfo`` of each image of a batch that heads need to predict."""
    size = tuple(batch.shape[-2:])
    names = ('ori_shape', 'img_shape', 'pad_shape', 'batch_input_shape')
    return [{**dict.fromkeys(names, size), 'scale_factor': (1.0, 1.0)} for _ in batch]

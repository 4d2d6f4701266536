"""The recipes' augmentation, and the published rule of evaluation, as pipeline steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from revcol_backbone.pretraining.classifier import MEAN, STD

# Up to this size the short side is resized to 256 / 224 of it and the middle is cropped.
LARGEST_CROPPED = 224
RESIZED_OVER_CROPPED = 256 / 224


@TRANSFORMS.register_module()
class PretrainingAugmentation:
    """timm's augmentation of training images, normalized, with the recipes' numbers as defaults.

    Args:
        size: Height and width of the result, in pixels.
        auto_augment: timm's name of a policy. Default ``'rand-m9-mstd0.5-inc1'``.
        color_jitter: Strength of the colour jitter, which timm leaves out beside a policy. Default
            0.4.
        interpolation: Of all resizing and warping. Default ``'bicubic'``.
        re_prob: Share of the images of which a rectangle is erased. Default 0.25.
        re_mode: What fills it. Default ``'pixel'``, noise.
        re_count: Rectangles at most. Default 1.
        hflip: Share of the images that are mirrored. Default 0.5.
        scale: Least and largest share of the picture that a crop covers. Default (0.08, 1).
        mean: What is subtracted from pictures in [0, 1]. Default ImageNet's.
        std: What they are divided by. Default ImageNet's.

    Raises:
        ImportError: timm is not installed.
    """

    def __init__(
        self,
        size: int = 224,
        auto_augment: str | None = 'rand-m9-mstd0.5-inc1',
        color_jitter: float | None = 0.4,
        interpolation: str = 'bicubic',
        re_prob: float = 0.25,
        re_mode: str = 'pixel',
        re_count: int = 1,
        hflip: float = 0.5,
        scale: Sequence[float] = (0.08, 1.0),
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        try:
            from timm.data import create_transform
        except ImportError:
            raise ImportError(
                "PretrainingAugmentation needs timm; run `pip install 'revcol-backbone[cls]'`."
            ) from None
        self.transform = create_transform(
            size,
            is_training=True,
            auto_augment=auto_augment,
            color_jitter=color_jitter,
            interpolation=interpolation,
            re_prob=re_prob,
            re_mode=re_mode,
            re_count=re_count,
            hflip=hflip,
            scale=tuple(scale),
            mean=tuple(mean),
            std=tuple(std),
        )

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn ``img``, BGR of shape (H, W, 3), into a tensor (3, size, size)."""
        return _apply(self.transform, results)


@TRANSFORMS.register_module()
class EvaluationTransform:
    """The published rule of evaluation, normalized.

    At 224 and below: the short side to 256 / 224 of the size, then the middle. Above: to the
    square, without a crop. Bicubic.

    Args:
        size: Height and width of the result, in pixels.
        mean: What is subtracted from pictures in [0, 1]. Default ImageNet's.
        std: What they are divided by. Default ImageNet's.
    """

    def __init__(
        self, size: int = 224, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
    ) -> None:
        bicubic = InterpolationMode.BICUBIC
        if size <= LARGEST_CROPPED:
            resized = int(RESIZED_OVER_CROPPED * size)
            steps = [transforms.Resize(resized, bicubic), transforms.CenterCrop(size)]
        else:
            steps = [transforms.Resize((size, size), bicubic)]
        self.transform = transforms.Compose(
            [*steps, transforms.ToTensor(), transforms.Normalize(mean, std)]
        )

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn ``img``, BGR of shape (H, W, 3), into a tensor (3, size, size)."""
        return _apply(self.transform, results)


def _apply(transform: Any, results: dict[str, Any]) -> dict[str, Any]:
    rgb = np.ascontiguousarray(results['img'][..., ::-1])
    results['img'] = transform(Image.fromarray(rgb))
    results['img_shape'] = tuple(results['img'].shape[-2:])
    return results

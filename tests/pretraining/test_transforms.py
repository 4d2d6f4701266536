"""The rule of evaluation at the published sizes, and the recipes' augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import normalize, to_tensor

from revcol_backbone.pretraining import EvaluationTransform, PretrainingAugmentation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def picture() -> Image.Image:
    smooth = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    return Image.fromarray(smooth).resize((400, 300), Image.Resampling.BICUBIC)


def transformed(transform: object, picture: Image.Image) -> torch.Tensor:
    bgr = np.asarray(picture)[..., ::-1]
    return transform({'img': bgr})['img']


def test_at_224_the_short_side_becomes_256_and_the_middle_is_cropped(picture) -> None:
    resized = picture.resize((341, 256), Image.Resampling.BICUBIC)
    left, top = round((341 - 224) / 2), (256 - 224) // 2
    cropped = resized.crop((left, top, left + 224, top + 224))
    expected = normalize(to_tensor(cropped), MEAN, STD)
    assert torch.equal(transformed(EvaluationTransform(224), picture), expected)


@pytest.mark.parametrize('size', [384, 640])
def test_above_224_the_whole_picture_becomes_the_square(picture, size: int) -> None:
    resized = picture.resize((size, size), Image.Resampling.BICUBIC)
    expected = normalize(to_tensor(resized), MEAN, STD)
    assert torch.equal(transformed(EvaluationTransform(size), picture), expected)


def test_the_augmentation_is_made_of_the_recipes_steps(picture) -> None:
    augmentation = PretrainingAugmentation(64)
    names = [type(step).__name__ for step in augmentation.transform.transforms]
    assert names == [
        'RandomResizedCropAndInterpolation',
        'RandomHorizontalFlip',
        'RandAugment',
        'MaybeToTensor',
        'Normalize',
        'RandomErasing',
    ]
    crop, _, policy, *_, erasing = augmentation.transform.transforms
    assert crop.interpolation == 'bicubic' or 'BICUBIC' in str(crop.interpolation)
    assert policy.num_layers == 2
    assert {(step.magnitude, step.magnitude_std) for step in policy.ops} == {(9, 0.5)}
    assert (erasing.probability, erasing.max_count, erasing.rand_color) == (0.25, 1, False)
    assert erasing.per_pixel
    found = transformed(augmentation, picture)
    assert found.shape == (3, 64, 64)
    assert found.dtype == torch.float32

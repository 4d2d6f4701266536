"""An image with its prediction, in a size that suits a page."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from revcol_backbone.inference import Predictor

# Most test pipelines shrink to less; a mask of the size of a large photo takes 50 MB.
LARGEST_SIDE = 2048
# Smaller images are enlarged, so that names and scores in them can be read.
SMALLEST_SIDE = 768


@dataclass(frozen=True)
class PredictedImage:
    """An image and its prediction, from which it is redrawn without the network.

    Args:
        image: BGR, uint8 of shape (H, W, 3), as it is shown.
        prediction: In the coordinates of ``image``.
        sizes: Width and height of the uploaded image, and of the image that the model got.
    """

    image: np.ndarray
    prediction: BaseDataElement
    sizes: tuple[tuple[int, int], tuple[int, int]]

    @property
    def was_shrunk(self) -> bool:
        """Whether the model got a smaller image than the uploaded one."""
        return self.sizes[0] != self.sizes[1]


def predict_image(predictor: Predictor, image: np.ndarray) -> PredictedImage:
    """Predict an image, shrunk first to :data:`LARGEST_SIDE`, and fit the result to a page.

    Args:
        predictor: The model.
        image: BGR, uint8 of shape (H, W, 3).
    """
    taken = shrink(image, LARGEST_SIDE)
    prediction = predictor.predict([taken])[0]
    factor = max(1, SMALLEST_SIDE // max(taken.shape[:2]))
    sizes = (image.shape[1::-1], taken.shape[1::-1])
    return PredictedImage(
        _enlarge_image(taken, factor), enlarge_prediction(prediction, factor), sizes
    )


def shrink(image: np.ndarray, largest_side: int) -> np.ndarray:
    """Shrink an image (H, W, 3) whose longer side exceeds ``largest_side``, to that side."""
    height, width = image.shape[:2]
    scale = largest_side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def enlarge_prediction(prediction: BaseDataElement, factor: int) -> BaseDataElement:
    """Scale a prediction to the coordinates of its image enlarged by an integer factor.

    Args:
        prediction: Has ``pred_instances`` or ``pred_sem_seg``; it is not modified.
        factor: At least 1.
    """
    enlarged = prediction.clone()
    if 'pred_instances' in prediction:
        enlarged.pred_instances = _enlarge_instances(prediction.pred_instances, factor)
    else:
        labels = prediction.pred_sem_seg.data
        for axis in (1, 2):
            labels = labels.repeat_interleave(factor, axis)
        enlarged.pred_sem_seg = PixelData(data=labels)
    return enlarged


def _enlarge_image(image: np.ndarray, factor: int) -> np.ndarray:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def _enlarge_instances(instances: InstanceData, factor: int) -> InstanceData:
    enlarged = instances.clone()
    enlarged.bboxes = instances.bboxes * factor
    if 'masks' in instances and factor > 1:
        masks = torch.as_tensor(instances.masks)
        if masks.numel():
            smooth = F.interpolate(masks[None].float(), scale_factor=factor, mode='bilinear')[0]
            enlarged.masks = smooth >= 0.5
    return enlarged

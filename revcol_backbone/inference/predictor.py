"""The base of detection and segmentation: a loaded model that predicts images and draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.infer import BaseInferencer
from mmengine.structures import BaseDataElement

from revcol_backbone.inference.results import Results
from revcol_backbone.inference.tiling import Tiling

SCORE_THRESHOLD = 0.3  # of detections that are drawn and written


@dataclass(frozen=True)
class Options:
    """How a predictor predicts.

    Args:
        batch_size: Number of images, or of tiles of one image, in a forward pass.
        tiling: How to cut larger images into tiles; ``None`` keeps them whole.
    """

    batch_size: int = 1
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f'a batch size of {self.batch_size} is not allowed; give 1 or more.')


class Predictor(ABC):
    """A model on its device with its test pipeline, on top of an OpenMMLab inferencer.

    Made by :func:`~revcol_backbone.inference.load_predictor`.

    Attributes:
        inferencer: mmdet's ``DetInferencer`` or mmseg's ``MMSegInferencer`` of the model.
        options: How it predicts.
        identity: What its predictions depend on, in words; set by ``load_predictor``.
        results_class: Writes the predictions of files.
    """

    results_class: ClassVar[type[Results]]

    def __init__(self, inferencer: BaseInferencer, options: Options) -> None:
        self.inferencer = inferencer
        self.options = options
        self.identity: dict[str, Any] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.inferencer.model.dataset_meta['classes']

    @property
    def palette(self) -> np.ndarray:
        """Class colors, uint8 of shape (C, 3), RGB."""
        return np.array(self.inferencer.model.dataset_meta['palette'], np.uint8)

    def predict(
        self, images: Sequence[np.ndarray], score_threshold: float = 0.0
    ) -> list[BaseDataElement]:
        """Predict images.

        Args:
            images: BGR, uint8 of shape (H, W, 3); their sizes may differ.
            score_threshold: Drop detections with a lower score, before those of tiles are merged.
                Label maps have no scores.

        Returns:
            A data sample for each image, on the CPU, in the coordinates of the image.

        Raises:
            ValueError: An image has another type or shape.
        """
        for image in images:
            _check_image(image)
        tiling = self.options.tiling
        if tiling is not None:
            return [
                self._predict_tiled(image, tiling, score_threshold)
                if max(image.shape[:2]) > tiling.size
                else self._predict_whole([image], score_threshold)[0]
                for image in images
            ]
        return self._predict_whole(images, score_threshold)

    @abstractmethod
    def draw(
        self,
        image: np.ndarray,
        prediction: BaseDataElement,
        score_threshold: float = SCORE_THRESHOLD,
    ) -> np.ndarray:
        """Draw a prediction onto a copy of its image.

        Args:
            image: BGR, uint8 of shape (H, W, 3).
            prediction: Prediction of the image.
            score_threshold: Hide detections with a lower score.

        Returns:
            BGR, uint8 of the same shape.
        """

    def draw_with_legend(
        self,
        image: np.ndarray,
        prediction: BaseDataElement,
        score_threshold: float = SCORE_THRESHOLD,
    ) -> np.ndarray:
        """Draw like :meth:`draw`, but with a legend, if there is one, beside the image."""
        return self.draw(image, prediction, score_threshold)

    @abstractmethod
    def _finish(self, sample: BaseDataElement, score_threshold: float) -> BaseDataElement:
        """Reduce a result of the model to what is returned, on the CPU."""

    @abstractmethod
    def _predict_tiled(
        self, image: np.ndarray, tiling: Tiling, score_threshold: float
    ) -> BaseDataElement:
        """Predict one image tile by tile."""

    def _predict_whole(
        self, images: Sequence[np.ndarray], score_threshold: float
    ) -> list[BaseDataElement]:
        predictions = []
        for start in range(0, len(images), self.options.batch_size):
            samples = self._forward(images[start : start + self.options.batch_size])
            predictions += [self._finish(sample, score_threshold) for sample in samples]
        return predictions

    @torch.no_grad()
    def _forward(self, images: Sequence[np.ndarray]) -> list[BaseDataElement]:
        """Run the model on a batch; only inputs of one size share a forward pass.

        Padding to a common size would make a prediction depend on its neighbors in the batch.
        """
        prepared = [
            self.inferencer.pipeline(dict(img=image, img_id=number))
            for number, image in enumerate(images)
        ]
        results: dict[int, BaseDataElement] = {}
        for numbers in _group_by_shape([sample['inputs'] for sample in prepared]):
            data = self.inferencer.collate_fn([prepared[number] for number in numbers])
            results.update(zip(numbers, self.inferencer.forward(data), strict=True))
        return [results[number] for number in range(len(images))]


def _check_image(image: Any) -> None:
    is_array = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not (is_array and image.ndim == 3 and image.shape[2] == 3 and image.size):
        found = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image)
        raise ValueError(
            f'an image must be a BGR array, uint8 of shape (H, W, 3), but is {found}; '
            '`read_image` makes one of any file.'
        )


def _group_by_shape(inputs: Sequence[Any]) -> Iterable[list[int]]:
    groups: dict[Any, list[int]] = {}
    for number, views in enumerate(inputs):
        views = views if isinstance(views, list) else [views]
        groups.setdefault(tuple(view.shape for view in views), []).append(number)
    return groups.values()

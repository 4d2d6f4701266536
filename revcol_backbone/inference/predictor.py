"""What detection and segmentation share: a loaded model that predicts and draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement

from revcol_backbone.inference.config import read_config, use_augmented_test


class Predictor(ABC):
    """A model on its device with its test pipeline, on top of an OpenMMLab inferencer.

    Made by :func:`load_predictor`.

    Attributes:
        inferencer: mmdet's ``DetInferencer`` or mmseg's ``MMSegInferencer`` of the model.
    """

    inferencer: BaseInferencer

    def __init__(self, inferencer: BaseInferencer, batch_size: int) -> None:
        self.inferencer = inferencer
        self.batch_size = batch_size

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by label."""
        return self.inferencer.model.dataset_meta['classes']

    def predict(self, images: Sequence[np.ndarray]) -> list[BaseDataElement]:
        """Predict pictures.

        Args:
            images: BGR, uint8 of shape (H, W, 3); their sizes may differ.

        Returns:
            A data sample for each, on the CPU, in the coordinates of its picture.
        """
        predictions: list[BaseDataElement] = []
        for start in range(0, len(images), self.batch_size):
            predictions += self._predict_batch(images[start : start + self.batch_size])
        return predictions

    @abstractmethod
    def draw(
        self, image: np.ndarray, prediction: BaseDataElement, score_threshold: float = 0.3
    ) -> np.ndarray:
        """Draw a prediction onto a copy of its picture.

        Args:
            image: BGR, uint8 of shape (H, W, 3).
            prediction: Its prediction.
            score_threshold: Detections with a lower score are left out.

        Returns:
            BGR, uint8 of the same shape.
        """

    def _predict_batch(self, images: Sequence[np.ndarray]) -> list[BaseDataElement]:
        """Predict at most a batch; pictures whose inputs differ in size go one by one.

        Padding to a common size would make a prediction depend on its neighbours in the batch.
        """
        prepared = [
            self.inferencer.pipeline(dict(img=image, img_id=number))
            for number, image in enumerate(images)
        ]
        predictions: dict[int, BaseDataElement] = {}
        for numbers in _group_by_shape([sample['inputs'] for sample in prepared]):
            data = self.inferencer.collate_fn([prepared[number] for number in numbers])
            results = self._forward(data)
            predictions.update(zip(numbers, results, strict=True))
        return [predictions[number].cpu() for number in range(len(images))]

    @torch.no_grad()
    def _forward(self, data: dict) -> list[BaseDataElement]:
        return self.inferencer.forward(data)


def load_predictor(
    config: str | Path,
    checkpoint: str | Path,
    device: str | None = None,
    *,
    cfg_options: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    tta: bool = False,
) -> Predictor:
    """Load a trained detector or segmentor, whole or not at all.

    Args:
        config: A config of mmdet or mmseg, on this machine.
        checkpoint: Its checkpoint, on this machine; nothing else is read or downloaded.
        device: As of torch; by default a GPU if there is one, else ``'cpu'``.
        cfg_options: Changes of the config, as of ``--cfg-options``.
        batch_size: Pictures that go through the model together.
        tta: Test-time augmentation by the config's ``tta_model`` and ``tta_pipeline``.

    Returns:
        A :class:`~revcol_backbone.inference.detection.DetectionPredictor` or a
        :class:`~revcol_backbone.inference.segmentation.SegmentationPredictor`, by the config.

    Raises:
        FileNotFoundError: The config or the checkpoint is missing.
        ValueError: One of them cannot be used, or they do not belong together.
        ImportError: The config's package is not installed.
    """
    content = read_config(config, cfg_options)
    if tta:
        use_augmented_test(content, config)
    device = choose_device(device)
    with DefaultScope.overwrite_default_scope(content.default_scope):
        return _predictor_class(content)(content, str(checkpoint), device, batch_size)


def choose_device(name: str | None) -> str:
    """The device of that name, or a GPU if there is one.

    Raises:
        ValueError: There is no such device.
    """
    if name is None:
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split('\n')[0]
        raise ValueError(
            f"device {name!r} cannot be used ({reason}); give 'cpu', or 'cuda' where there is a "
            'GPU.'
        ) from None
    return name


def _predictor_class(config: Config) -> type[Predictor]:
    try:
        if config.default_scope == 'mmdet':
            from revcol_backbone.inference.detection import DetectionPredictor

            return DetectionPredictor
        from revcol_backbone.inference.segmentation import SegmentationPredictor

        return SegmentationPredictor
    except ImportError as error:
        extra = config.default_scope.removeprefix('mm')
        raise ImportError(
            f'{config.default_scope} cannot be imported ({error}); run '
            f"`pip install 'revcol-backbone[{extra}]'`."
        ) from error


def _group_by_shape(inputs: Sequence[Any]) -> Iterator[list[int]]:
    groups: dict[Any, list[int]] = {}
    for number, views in enumerate(inputs):
        views = views if isinstance(views, list) else [views]
        groups.setdefault(tuple(view.shape for view in views), []).append(number)
    yield from groups.values()

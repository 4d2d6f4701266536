"""Semantic segmentation of pictures, on top of mmseg's inferencer."""

from __future__ import annotations

import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from mmseg.apis import MMSegInferencer
from mmseg.structures import SegDataSample

from revcol_backbone.inference.label_picture import draw_labels
from revcol_backbone.inference.palette import complete_palette
from revcol_backbone.inference.predictor import Predictor
from revcol_backbone.inference.whole_model import WholeModelInferencer


class WholeSegInferencer(WholeModelInferencer, MMSegInferencer):
    """mmseg's inferencer of a model that was loaded whole or not at all."""


class SegmentationPredictor(Predictor):
    """A segmentor. Its predictions have ``pred_sem_seg``, whose ``data`` is the label map
    (1, H, W)."""

    def __init__(self, config: Config, checkpoint: str, device: str, batch_size: int) -> None:
        config.setdefault('visualizer', dict(type='SegLocalVisualizer'))
        super().__init__(WholeSegInferencer(config, checkpoint, device=device), batch_size)
        palette = self.inferencer.model.dataset_meta['palette']
        self.palette = complete_palette(palette, len(self.classes))

    def draw(
        self, image: np.ndarray, prediction: SegDataSample, score_threshold: float = 0.3
    ) -> np.ndarray:
        """Draw the label map with a legend; label maps have no scores to compare."""
        labels = prediction.pred_sem_seg.data[0].numpy()
        return draw_labels(image, labels, self.classes, self.palette)

    def _forward(self, data: dict) -> list[BaseDataElement]:
        predictions = super()._forward(data)
        for prediction in predictions:
            # A score for each pixel and class: a hundred times the size of the picture.
            del prediction.seg_logits
        return predictions

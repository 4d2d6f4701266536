"""Detection and instance segmentation of pictures, on top of mmdet's inferencer."""

from __future__ import annotations

import numpy as np
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmengine.config import Config

from revcol_backbone.inference.instance_picture import draw_instances
from revcol_backbone.inference.palette import complete_palette
from revcol_backbone.inference.predictor import Predictor
from revcol_backbone.inference.whole_model import WholeModelInferencer


class WholeDetInferencer(WholeModelInferencer, DetInferencer):
    """mmdet's inferencer of a model that was loaded whole or not at all."""


class DetectionPredictor(Predictor):
    """A detector. Its predictions have ``pred_instances`` with ``bboxes`` (N, 4) as left, top,
    right, bottom in pixels, ``scores``, ``labels`` and, from a model of masks, ``masks``
    (N, H, W)."""

    def __init__(self, config: Config, checkpoint: str, device: str, batch_size: int) -> None:
        config.setdefault('visualizer', dict(type='DetLocalVisualizer'))
        inferencer = WholeDetInferencer(config, checkpoint, device, show_progress=False)
        super().__init__(inferencer, batch_size)
        palette = inferencer.model.dataset_meta['palette']
        self.palette = complete_palette(palette, len(self.classes))

    def draw(
        self, image: np.ndarray, prediction: DetDataSample, score_threshold: float = 0.3
    ) -> np.ndarray:
        instances = prediction.pred_instances
        instances = instances[instances.scores >= score_threshold].numpy()
        return draw_instances(image, instances, self.classes, self.palette)

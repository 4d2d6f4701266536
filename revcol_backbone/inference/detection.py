"""Detection and instance segmentation of pictures, on top of mmdet's inferencer."""

from __future__ import annotations

import numpy as np
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmdet.structures.mask import mask2bbox
from mmengine.config import Config

from revcol_backbone.inference.detection_results import DetectionResults
from revcol_backbone.inference.instance_picture import draw_instances
from revcol_backbone.inference.predictor import SCORE_THRESHOLD, Options, Predictor
from revcol_backbone.inference.tiled_instances import merge_instances
from revcol_backbone.inference.tiling import Tiling
from revcol_backbone.inference.whole_model import WholeModelInferencer


class WholeDetInferencer(WholeModelInferencer, DetInferencer):
    """mmdet's inferencer of a model that was loaded whole or not at all."""


class DetectionPredictor(Predictor):
    """A detector. Its predictions have ``pred_instances`` with ``bboxes`` (N, 4) as left, top,
    right, bottom in pixels, ``scores``, ``labels`` and, from a model of masks, ``masks``
    (N, H, W)."""

    results_class = DetectionResults

    def __init__(self, config: Config, checkpoint: str, device: str, options: Options) -> None:
        config.visualizer = dict(type='DetLocalVisualizer')
        inferencer = WholeDetInferencer(config, checkpoint, device, show_progress=False)
        super().__init__(inferencer, options)

    def draw(
        self, image: np.ndarray, prediction: DetDataSample, score_threshold: float = SCORE_THRESHOLD
    ) -> np.ndarray:
        instances = prediction.pred_instances
        instances = instances[instances.scores >= score_threshold].numpy()
        return draw_instances(image, instances, self.classes, self.palette)

    def _finish(self, sample: DetDataSample, score_threshold: float) -> DetDataSample:
        if 'pred_instances' not in sample:
            raise ValueError('the model predicts no instances; give the config of a detector.')
        instances = sample.pred_instances
        instances = instances[instances.scores >= score_threshold].cpu()
        if 'masks' in instances and not instances.bboxes.any():  # a model of masks alone
            instances.bboxes = mask2bbox(instances.masks)
        sample.pred_instances = instances
        return sample.cpu()

    def _predict_tiled(
        self, image: np.ndarray, tiling: Tiling, score_threshold: float
    ) -> DetDataSample:
        height, width = image.shape[:2]
        windows = [window for band in tiling.bands(height, width) for window in band]
        tiles = []
        for start in range(0, len(windows), self.options.batch_size):
            chosen = windows[start : start + self.options.batch_size]
            samples = self._forward([image[w.rows, w.columns] for w in chosen])
            tiles += [self._finish(sample, score_threshold).pred_instances for sample in samples]
        merged = merge_instances(tiles, windows, height, width)
        return DetDataSample(metainfo=dict(ori_shape=(height, width)), pred_instances=merged)

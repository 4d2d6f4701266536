"""Semantic segmentation of pictures, on top of mmseg's inferencer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.apis import MMSegInferencer
from mmseg.structures import SegDataSample
from torch import Tensor

from revcol_backbone.inference.label_picture import Legend, draw_labels
from revcol_backbone.inference.predictor import SCORE_THRESHOLD, Options, Predictor
from revcol_backbone.inference.segmentation_results import SegmentationResults
from revcol_backbone.inference.segmentation_tta import ScoredSegTTAModel
from revcol_backbone.inference.tiled_labels import merge_labels
from revcol_backbone.inference.tiling import Tiling, Window
from revcol_backbone.inference.whole_model import WholeModelInferencer


class WholeSegInferencer(WholeModelInferencer, MMSegInferencer):
    """mmseg's inferencer of a model that was loaded whole or not at all."""


class SegmentationPredictor(Predictor):
    """A segmentor. Its predictions have ``pred_sem_seg``, whose ``data`` is the label map
    (1, H, W), int64."""

    results_class = SegmentationResults

    def __init__(self, config: Config, checkpoint: str, device: str, options: Options) -> None:
        config.visualizer = dict(type='SegLocalVisualizer')
        if config.model.type == 'SegTTAModel':
            config.model.type = ScoredSegTTAModel.__name__
        super().__init__(WholeSegInferencer(config, checkpoint, device=device), options)
        self.legend = Legend(self.classes, self.palette)

    def draw(
        self, image: np.ndarray, prediction: SegDataSample, score_threshold: float = SCORE_THRESHOLD
    ) -> np.ndarray:
        """Draw the label map with a legend in a corner; label maps have no scores to compare."""
        labels = prediction.pred_sem_seg.data[0].numpy()
        return self.legend.on(draw_labels(image, labels, self.palette), labels)

    def draw_page(
        self, image: np.ndarray, prediction: SegDataSample, score_threshold: float = SCORE_THRESHOLD
    ) -> np.ndarray:
        """Draw the label map with the legend beside the picture."""
        labels = prediction.pred_sem_seg.data[0].numpy()
        return self.legend.beside(draw_labels(image, labels, self.palette), labels)

    def _finish(self, sample: SegDataSample, score_threshold: float) -> SegDataSample:
        del sample.seg_logits  # a number for each pixel and class
        sample.pred_sem_seg = PixelData(data=sample.pred_sem_seg.data.long())
        return sample.cpu()

    def _predict_tiled(
        self, image: np.ndarray, tiling: Tiling, score_threshold: float
    ) -> SegDataSample:
        def score(windows: Sequence[Window]) -> Iterator[Tensor]:
            for start in range(0, len(windows), self.options.batch_size):
                chosen = windows[start : start + self.options.batch_size]
                samples = self._forward([image[w.rows, w.columns] for w in chosen])
                yield from (sample.seg_logits.data for sample in samples)

        height, width = image.shape[:2]
        labels = merge_labels(tiling.bands(height, width), score, self._decide, height, width)
        sample = SegDataSample(metainfo=dict(ori_shape=(height, width)))
        sample.pred_sem_seg = PixelData(data=labels[None])
        return sample

    def _decide(self, scores: Tensor) -> Tensor:
        """Labels (H, W) of scores (C, H, W), by mmseg's rule."""
        model = self.inferencer.model
        head = (model.module if isinstance(model, BaseTTAModel) else model).decode_head
        return scores[0] > head.threshold if head.out_channels == 1 else scores.argmax(0)

"""Semantic segmentation on top of mmseg's inferencer: label maps as PNG, class shares as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.apis import MMSegInferencer
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from revcol_backbone.inference.drawing import Legend, draw_labels
from revcol_backbone.inference.inferencer import WholeModelInferencer
from revcol_backbone.inference.media import Input
from revcol_backbone.inference.predictor import SCORE_THRESHOLD, Options, Predictor
from revcol_backbone.inference.results import CLASS_SHARES, LABEL_MAPS, Predicted, Results
from revcol_backbone.inference.tiling import Tiling, Window, merge_labels

MAX_CLASSES_IN_8_BITS = 256
FRAME_DIGITS = 6


class WholeSegInferencer(WholeModelInferencer, MMSegInferencer):
    """mmseg's inferencer for a model that was loaded whole or not at all."""


class SegmentationResults(Results):
    """``label_maps/NAME.png`` for each input, ``class_shares.csv`` for all, visualizations.

    A label map holds the label of each pixel in one channel, with 16 bits if there are more than
    256 classes. The frames of a video are in a folder: ``label_maps/NAME/000000.png``.
    """

    def record_of(self, item: Input) -> str:
        return f'{LABEL_MAPS}/{item.name}{"" if item.is_video else ".png"}'

    def write_summary(self, items: Sequence[Input]) -> Path:
        with (
            self.out.replacing(CLASS_SHARES) as path,
            # Names that are not valid UTF-8 keep their bytes.
            path.open('w', newline='', encoding='utf-8', errors='surrogateescape') as file,
        ):
            writer = csv.writer(file)
            writer.writerow(['file', 'frame', *self.classes])
            for item in items:
                for frame, label_map in self._label_maps_of(item):
                    labels = _read_label_map(label_map)
                    pixels = np.bincount(labels.ravel(), minlength=len(self.classes))
                    shares = (f'{share:.6f}' for share in pixels / labels.size)
                    writer.writerow([item.name, frame, *shares])
        return self.out / CLASS_SHARES

    def _write_record(self, path: Path, item: Input, frames: Iterable[Predicted]) -> None:
        if item.is_video:
            path.mkdir(parents=True)
        for number, (_, prediction) in enumerate(frames):
            file = path / f'{number:0{FRAME_DIGITS}}.png' if item.is_video else path
            self._write_label_map(file, prediction.pred_sem_seg.data[0].numpy())

    def _write_label_map(self, path: Path, labels: np.ndarray) -> None:
        is_small = len(self.classes) <= MAX_CLASSES_IN_8_BITS
        is_encoded, data = cv2.imencode('.png', labels.astype(np.uint8 if is_small else np.uint16))
        if not is_encoded:
            raise OSError(f'the label map {path.name} of {labels.shape} cannot be encoded.')
        path.write_bytes(data.tobytes())

    def _label_maps_of(self, item: Input) -> Iterator[tuple[int | str, Path]]:
        record = self.out / self.record_of(item)
        if item.is_video:
            yield from enumerate(sorted(record.iterdir()))
        else:
            yield '', record


class SegmentationPredictor(Predictor):
    """A segmentor.

    Its predictions are mmseg's ``SegDataSample`` with ``pred_sem_seg``, whose ``data`` is the label
    map (1, H, W), int64.
    """

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
        """Draw the label map with a legend in a corner; label maps have no score to compare."""
        labels = prediction.pred_sem_seg.data[0].numpy()
        return self.legend.on(draw_labels(image, labels, self.palette), labels)

    def draw_with_legend(
        self, image: np.ndarray, prediction: SegDataSample, score_threshold: float = SCORE_THRESHOLD
    ) -> np.ndarray:
        """Draw the label map with the legend beside the image."""
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
        """Return the labels (H, W) of scores (C, H, W) by mmseg's rule."""
        model = self.inferencer.model
        head = (model.module if isinstance(model, BaseTTAModel) else model).decode_head
        return scores[0] > head.threshold if head.out_channels == 1 else scores.argmax(0)


@MODELS.register_module()
class ScoredSegTTAModel(SegTTAModel):
    """A ``SegTTAModel`` whose results keep the mean scores of all views, for tiles to average.

    A model with one output channel decides by these scores, which are probabilities: mmseg's own
    class takes the sigmoid of them once more, and then every pixel passes the threshold.
    """

    def merge_preds(self, data_samples_list: Sequence[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image; arguments as in ``SegTTAModel``."""
        is_binary = self.module.out_channels == 1
        means = []
        for views in data_samples_list:
            scores = [view.seg_logits.data for view in views]
            means.append(sum(s if is_binary else s.softmax(dim=0) for s in scores) / len(views))
        merged = super().merge_preds(data_samples_list)
        for sample, mean in zip(merged, means, strict=True):
            sample.seg_logits = PixelData(data=mean)
            if is_binary:
                labels = mean > self.module.decode_head.threshold
                sample.pred_sem_seg = PixelData(data=labels)
        return merged


def _read_label_map(path: Path) -> np.ndarray:
    # From memory: `imread` crashes on a path that is not valid UTF-8.
    data = np.frombuffer(path.read_bytes(), np.uint8)
    labels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise ValueError(f'{path} cannot be read as an image; remove it and predict again')
    return labels

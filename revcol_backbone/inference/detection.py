"""Object detection and instance segmentation on top of mmdet's inferencer, and its COCO JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results, mask2bbox
from mmengine.config import Config
from pycocotools import mask as coco_mask

from revcol_backbone.inference.drawing import draw_instances
from revcol_backbone.inference.inferencer import WholeModelInferencer
from revcol_backbone.inference.media import Input
from revcol_backbone.inference.predictor import SCORE_THRESHOLD, Options, Predictor
from revcol_backbone.inference.results import ALL_PREDICTIONS, PREDICTIONS, Predicted, Results
from revcol_backbone.inference.tiled_instances import merge_instances
from revcol_backbone.inference.tiling import Tiling

Json = dict[str, Any]


class WholeDetInferencer(WholeModelInferencer, DetInferencer):
    """mmdet's inferencer for a model that was loaded whole or not at all."""


class DetectionResults(Results):
    """``predictions/NAME.json`` for each input, ``predictions.json`` for all, visualizations.

    Each is a whole COCO data set whose annotations have a ``score``; ``category_id`` is the label
    plus 1. The frames of a video are images with a ``frame_id`` starting at 0.
    """

    def record_of(self, item: Input) -> str:
        return f'{PREDICTIONS}/{item.name}.json'

    def write_summary(self, items: Sequence[Input]) -> Path:
        images: list[Json] = []
        annotations: list[Json] = []
        for item in items:
            content = json.loads((self.out / self.record_of(item)).read_text())
            for annotation in content['annotations']:
                annotation['id'] += len(annotations)
                annotation['image_id'] += len(images)
            images += ({**image, 'id': image['id'] + len(images)} for image in content['images'])
            annotations += content['annotations']
        with self.out.replacing(ALL_PREDICTIONS) as path:
            path.write_text(json.dumps(self._dataset(images, annotations)))
        return self.out / ALL_PREDICTIONS

    def _write_record(self, path: Path, item: Input, frames: Iterable[Predicted]) -> None:
        images: list[Json] = []
        annotations: list[Json] = []
        for number, (image, prediction) in enumerate(frames):
            height, width = image.shape[:2]
            entry = dict(id=number + 1, file_name=item.name, height=height, width=width)
            images.append(dict(entry, frame_id=number) if item.is_video else entry)
            for annotation in coco_annotations(prediction):
                annotations.append(dict(id=len(annotations) + 1, image_id=number + 1, **annotation))
        path.write_text(json.dumps(self._dataset(images, annotations)))

    def _dataset(self, images: list[Json], annotations: list[Json]) -> Json:
        categories = [dict(id=label + 1, name=name) for label, name in enumerate(self.classes)]
        return dict(images=images, annotations=annotations, categories=categories)


class DetectionPredictor(Predictor):
    """A detector.

    Its predictions are mmdet's ``DetDataSample`` with ``pred_instances``: ``bboxes`` (N, 4) as
    left, top, right, bottom in pixels, ``scores``, ``labels`` and, where the model has masks,
    ``masks`` (N, H, W).
    """

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


def coco_annotations(prediction: DetDataSample) -> list[Json]:
    """Convert a prediction to COCO annotations without ids: boxes, scores and encoded masks."""
    instances = prediction.pred_instances.numpy()
    corners = instances.bboxes.astype(float)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    annotations = [
        dict(
            category_id=int(label) + 1,
            bbox=[round(value, 2) for value in box],
            score=round(float(score), 5),
            area=round(box[2] * box[3], 2),
            iscrowd=0,
        )
        for label, score, box in zip(
            instances.labels, instances.scores, boxes.tolist(), strict=True
        )
    ]
    if 'masks' in instances:
        masks = encode_mask_results(instances.masks)
        for annotation, mask in zip(annotations, masks, strict=True):
            area = int(coco_mask.area(mask))
            mask['counts'] = mask['counts'].decode()
            annotation.update(segmentation=mask, area=area)
    return annotations

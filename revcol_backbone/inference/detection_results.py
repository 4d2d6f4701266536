"""Detections as COCO JSON: one file for each input, and one for all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results
from pycocotools import mask as coco_mask

from revcol_backbone.inference.inputs import Input
from revcol_backbone.inference.output_folder import ALL_PREDICTIONS, PREDICTIONS
from revcol_backbone.inference.results import Predicted, Results

Json = dict[str, Any]


class DetectionResults(Results):
    """``predictions/NAME.json``, in the end ``predictions.json``, and the pictures.

    Each is a whole COCO data set whose annotations have a ``score``; ``category_id`` is the label
    plus 1. The frames of a video are images with a ``frame_id`` from 0.
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
            for annotation in self._annotations(prediction):
                annotations.append(dict(id=len(annotations) + 1, image_id=number + 1, **annotation))
        path.write_text(json.dumps(self._dataset(images, annotations)))

    def _annotations(self, prediction: DetDataSample) -> list[Json]:
        instances = prediction.pred_instances
        instances = instances[instances.scores >= self.score_threshold].numpy()
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
            for annotation, mask in zip(
                annotations, encode_mask_results(instances.masks), strict=True
            ):
                area = int(coco_mask.area(mask))
                mask['counts'] = mask['counts'].decode()
                annotation.update(segmentation=mask, area=area)
        return annotations

    def _dataset(self, images: list[Json], annotations: list[Json]) -> Json:
        categories = [
            dict(id=label + 1, name=name) for label, name in enumerate(self.predictor.classes)
        ]
        return dict(images=images, annotations=annotations, categories=categories)

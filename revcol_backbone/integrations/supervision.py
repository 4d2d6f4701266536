"""Predictions as ``supervision.Detections``, for that library's annotators, trackers and counters.

.. code-block:: python

    image = read_image('street.jpg')
    detections = to_supervision(predictor.predict([image])[0], predictor.classes)
    drawing = supervision.BoxAnnotator().annotate(image.copy(), detections)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.structures import BaseDataElement

try:
    import supervision
except ImportError as error:
    raise ImportError(
        f'supervision cannot be imported ({error}); run `pip install supervision`.'
    ) from error


def to_supervision(
    prediction: BaseDataElement, classes: Sequence[str] | None = None
) -> supervision.Detections:
    """Convert a prediction of a detector or a segmentor.

    Args:
        prediction: As returned by ``Predictor.predict``. Of a label map, each class that it
            contains becomes one detection: its mask and the box around it, without a score.
        classes: Class names, which become ``data['class_name']``.

    Raises:
        ValueError: It has neither instances nor a label map.
    """
    if 'pred_instances' in prediction:
        detections = _from_instances(prediction)
    elif 'pred_sem_seg' in prediction:
        detections = _from_labels(prediction.pred_sem_seg.data[0].cpu().numpy())
    else:
        raise ValueError(
            'the prediction has neither `pred_instances` nor `pred_sem_seg`; give one of '
            'Predictor.predict.'
        )
    if classes is not None:
        names = np.array(classes, dtype=object)[detections.class_id]
        detections.data['class_name'] = names.astype(str)
    return detections


def _from_instances(prediction: BaseDataElement) -> supervision.Detections:
    instances = prediction.pred_instances.cpu().numpy()
    return supervision.Detections(
        xyxy=instances.bboxes.astype(np.float32),
        mask=instances.masks.astype(bool) if 'masks' in instances else None,
        confidence=instances.scores,
        class_id=instances.labels.astype(int),
    )


def _from_labels(labels: np.ndarray) -> supervision.Detections:
    present = np.unique(labels)
    masks = labels == present[:, None, None]
    boxes = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return supervision.Detections(
        xyxy=np.array(boxes, np.float32), mask=masks, class_id=present.astype(int)
    )

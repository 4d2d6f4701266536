"""A summary of a prediction in words and in the colors of the drawing, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from mmengine.structures import BaseDataElement

from revcol_backbone.demo.predicted_image import PredictedImage
from revcol_backbone.inference import Predictor


def summarize(image: PredictedImage, predictor: Predictor, score_threshold: float) -> str:
    """Count the detections of each class, or compute each class's share of the pixels.

    Args:
        image: The image and its prediction.
        predictor: The model, for its classes and colors.
        score_threshold: Do not count detections with a lower score.
    """
    if 'pred_instances' in image.prediction:
        text, chips = _count_detections(image.prediction, predictor, score_threshold)
    else:
        text, chips = _measure_shares(image.prediction, predictor)
    if image.was_shrunk:
        (width, height), (taken_width, taken_height) = image.sizes
        text += (
            f' The image of {width} x {height} pixels was shrunk to {taken_width} x '
            f'{taken_height} first.'
        )
    return f'<p>{text}</p><div class="chips">{"".join(chips)}</div>'


def say(sentence: str, is_problem: bool = False) -> str:
    """One sentence of plain text, as HTML."""
    role = ' class="problem" role="alert"' if is_problem else ''
    return f'<p{role}>{escape(sentence)}</p>'


def _count_detections(
    prediction: BaseDataElement, predictor: Predictor, score_threshold: float
) -> tuple[str, Iterable[str]]:
    instances = prediction.pred_instances
    shown = instances.labels[instances.scores >= score_threshold].numpy()
    number = len(instances)
    text = (
        f'<strong>{len(shown)}</strong> of {number} detection{"" if number == 1 else "s"} '
        f'{"scores" if len(shown) == 1 else "score"} {score_threshold:.2f} or more.'
    )
    labels, counts = _most_frequent(shown)
    chips = (
        _chip(predictor, label, f'&times; {count}')
        for label, count in zip(labels, counts, strict=True)
    )
    return text, chips


def _measure_shares(prediction: BaseDataElement, predictor: Predictor) -> tuple[str, Iterable[str]]:
    pixels = prediction.pred_sem_seg.data.numpy()
    labels, counts = _most_frequent(pixels)
    plural = '' if len(labels) == 1 else 'es'
    text = f'<strong>{len(labels)}</strong> class{plural}, with their shares of the pixels.'
    chips = (
        _chip(predictor, label, f'{count / pixels.size:.1%}')
        for label, count in zip(labels, counts, strict=True)
    )
    return text, chips


def _most_frequent(labels: np.ndarray) -> tuple[Sequence[int], Sequence[int]]:
    present, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind='stable')
    return present[order].tolist(), counts[order].tolist()


def _chip(predictor: Predictor, label: int, figure: str) -> str:
    red, green, blue = predictor.palette[label]
    return (
        f'<span class="chip"><i style="background: rgb({red}, {green}, {blue})"></i>'
        f'{escape(predictor.classes[label])} <b>{figure}</b></span>'
    )

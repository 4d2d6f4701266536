"""Predicting files: one, a folder, a glob or a video, going on where an earlier run stopped."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from revcol_backbone.inference.images import read_image
from revcol_backbone.inference.inputs import Input, find_inputs
from revcol_backbone.inference.output_folder import OutputFolder
from revcol_backbone.inference.predictor import SCORE_THRESHOLD, Predictor
from revcol_backbone.inference.results import Predicted, Results
from revcol_backbone.inference.video import VideoReader


@dataclass
class Outcome:
    """What became of the files of a run.

    Attributes:
        done: Files that have results.
        earlier: How many of them had them before the run.
        failures: A sentence for each file that has none.
        doubts: A sentence for each that may be cut short.
        left_out: Files of the folder that are neither pictures nor videos.
        summary: The file about all that have results, if any has.
    """

    done: list[Input] = field(default_factory=list)
    earlier: int = 0
    failures: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    left_out: tuple[Path, ...] = ()
    summary: Path | None = None


def predict_files(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    pictures: bool = True,
) -> Outcome:
    """Predict pictures and videos, and write the results into a folder.

    A file that cannot be predicted does not end the run. Every file of the results appears whole.
    Called again after an interruption, it goes on where it stopped; a video starts again.

    Args:
        predictor: As from :func:`~revcol_backbone.inference.load_predictor`.
        source: One file, a folder (with its sub-folders) or a glob.
        out: Where the results go, as :class:`DetectionResults` and :class:`SegmentationResults`
            tell.
        score_threshold: Detections with a lower score are left out.
        pictures: Whether to draw the predictions.

    Raises:
        FileNotFoundError: There is no input.
        OSError: The results cannot be written.
        ValueError: The input has no pictures, or ``out`` has results of another run.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f'a score threshold of {score_threshold} is not allowed; give 0 to 1.')
    inputs = find_inputs(source, Path(out))
    identity = dict(
        predictor.identity,
        input=str(inputs.folder),
        score_threshold=str(score_threshold),
        pictures='drawn' if pictures else 'none',
    )
    folder = OutputFolder(Path(out), identity)
    results = predictor.results_class(folder, predictor, score_threshold, pictures)
    outcome = Outcome(left_out=inputs.left_out)
    outcome.done = [item for item in inputs.found if results.is_done(item)]
    outcome.earlier = len(outcome.done)
    earlier = set(outcome.done)
    todo = [item for item in inputs.found if item not in earlier]
    with Progress(console=Console(stderr=True)) as progress:
        run = _Run(predictor, results, outcome, progress)
        run.predict_pictures([item for item in todo if not item.is_video])
        for item in todo:
            if item.is_video:
                run.predict_video(item)
    outcome.done.sort()
    if outcome.done:
        outcome.summary = results.write_summary(outcome.done)
    folder.close()
    return outcome


class _PredictionError(Exception):
    """Why a picture could not be predicted."""


class _Run:
    """Predicts what is to be done, and notes what cannot be."""

    def __init__(
        self, predictor: Predictor, results: Results, outcome: Outcome, progress: Progress
    ) -> None:
        self.predictor = predictor
        self.results = results
        self.outcome = outcome
        self.progress = progress

    def predict_pictures(self, items: Sequence[Input]) -> None:
        if not items:
            return
        task = self.progress.add_task('pictures', total=len(items))
        for batch in _batches(items, self.predictor.options.batch_size):
            read = [(item, image) for item in batch if (image := self._read(item)) is not None]
            for item, predicted in self._predict_each(read):
                self.results.write_picture(item, predicted)
                self.outcome.done.append(item)
            self.progress.advance(task, len(batch))

    def predict_video(self, item: Input) -> None:
        try:
            reader = VideoReader(item.path)
            self.results.write_video(item, self._predict_frames(item, reader), reader.rate)
            self.outcome.done.append(item)
            if reader.frames_read < reader.length:
                self.outcome.doubts.append(
                    f'{item.path} may be cut short: {reader.frames_read} frames could be decoded, '
                    f'its header tells of {reader.length}'
                )
        except ValueError as error:
            self.outcome.failures.append(str(error))
        except _PredictionError as reason:
            self.outcome.failures.append(f'{item.path} could not be predicted: {reason}')

    def _read(self, item: Input) -> np.ndarray | None:
        try:
            return read_image(item.path)
        except ValueError as error:
            self.outcome.failures.append(str(error))
            return None

    def _predict_each(
        self, read: Sequence[tuple[Input, np.ndarray]]
    ) -> list[tuple[Input, Predicted]]:
        """Predict together; if that fails, one by one, to tell the bad ones from the others."""
        try:
            predicted = self._predict([image for _, image in read])
        except _PredictionError as reason:
            if len(read) > 1:
                return [result for one in read for result in self._predict_each([one])]
            item, image = read[0]
            size = f'{image.shape[1]} x {image.shape[0]} pixels'
            self.outcome.failures.append(f'{item.path} ({size}) could not be predicted: {reason}')
            return []
        return [(item, pair) for (item, _), pair in zip(read, predicted, strict=True)]

    def _predict_frames(self, item: Input, reader: VideoReader) -> Iterator[Predicted]:
        task = self.progress.add_task(item.name, total=reader.length or None)
        for frames in _batches(reader, self.predictor.options.batch_size):
            yield from self._predict(frames)
            self.progress.advance(task, len(frames))

    def _predict(self, images: Sequence[np.ndarray]) -> list[Predicted]:
        try:
            predictions = self.predictor.predict(images, self.results.score_threshold)
        except torch.OutOfMemoryError:
            raise _PredictionError(
                'it does not fit into the memory of the GPU; use --tile, a smaller --batch-size '
                'or --device cpu.'
            ) from None
        except Exception as error:  # a pipeline or model can raise anything at odd sizes
            reason = ' '.join(str(error).split()) or 'no reason was given'
            raise _PredictionError(f'{type(error).__name__}: {reason}') from error
        return list(zip(images, predictions, strict=True))


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch

"""Predicting files: one image, a folder, a glob or a video, resuming an interrupted run."""

from __future__ import annotations

import errno
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from revcol_backbone.inference.media import Input, find_inputs, read_image
from revcol_backbone.inference.predictor import SCORE_THRESHOLD, Predictor
from revcol_backbone.inference.results import OutputFolder, Predicted, Results, earlier_results
from revcol_backbone.inference.video import NO_H264, VideoReader, av


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        done: Files that have results.
        earlier: How many of them had results before the run.
        failures: A sentence for each file that has none.
        warnings: A sentence for each video that may be truncated, or about the format of videos.
        skipped: Files of the folder that are neither images nor videos.
        summary: The file about all results, if there are any.
    """

    done: list[Input] = field(default_factory=list)
    earlier: int = 0
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: tuple[Path, ...] = ()
    summary: Path | None = None


def predict_files(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    visualizations: bool = True,
) -> Outcome:
    """Predict images and videos, and write the results into a folder.

    A file that cannot be predicted does not end the run. Every result appears whole. Called again
    after an interruption, it resumes; a video starts again.

    Args:
        predictor: As returned by :func:`~revcol_backbone.inference.load_predictor`.
        source: A file, a folder (with its subfolders) or a glob.
        out: Folder of the results, which :class:`DetectionResults` and
            :class:`SegmentationResults` describe.
        score_threshold: Drop detections with a lower score.
        visualizations: Whether to draw the predictions.

    Raises:
        FileNotFoundError: There is no input.
        OSError: The results cannot be written.
        ValueError: The input has no images, or ``out`` has results of another run.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f'a score threshold of {score_threshold} is not allowed; give 0 to 1.')
    inputs = find_inputs(source, exclude=earlier_results(Path(out)))
    identity = dict(
        predictor.identity,
        input=str(inputs.folder),
        score_threshold=str(score_threshold),
        visualizations='with' if visualizations else 'without',
    )
    folder = OutputFolder(Path(out), identity)
    draw = functools.partial(predictor.draw_with_legend, score_threshold=score_threshold)
    results = predictor.results_class(folder, predictor.classes, draw if visualizations else None)
    outcome = Outcome(skipped=inputs.skipped)
    outcome.done = [item for item in inputs.found if results.is_done(item)]
    outcome.earlier = len(outcome.done)
    earlier = set(outcome.done)
    todo = [item for item in inputs.found if item not in earlier]
    with Progress(console=Console(stderr=True)) as progress:
        run = _Run(predictor, results, score_threshold, outcome, progress)
        run.predict_images([item for item in todo if not item.is_video])
        for item in todo:
            if item.is_video:
                run.predict_video(item)
    if av is None and visualizations and any(item.is_video for item in outcome.done):
        outcome.warnings.append(NO_H264)
    outcome.done.sort()
    if outcome.done:
        outcome.summary = results.write_summary(outcome.done)
    folder.close()
    return outcome


class _FailedError(Exception):
    """Why an image could not be predicted."""


class _Run:
    """Predicts one input after the other and collects failures."""

    def __init__(
        self,
        predictor: Predictor,
        results: Results,
        score_threshold: float,
        outcome: Outcome,
        progress: Progress,
    ) -> None:
        self.predictor = predictor
        self.results = results
        self.score_threshold = score_threshold
        self.outcome = outcome
        self.progress = progress

    def predict_images(self, items: Sequence[Input]) -> None:
        if not items:
            return
        task = self.progress.add_task('images', total=len(items))
        for batch in _batches(items, self.predictor.options.batch_size):
            read = [(item, image) for item in batch if (image := self._read(item)) is not None]
            for item, predicted in self._predict_each(read):
                try:
                    self.results.write_image(item, predicted)
                    self.outcome.done.append(item)
                except OSError as error:
                    self._report_long_name(item, error)
            self.progress.advance(task, len(batch))

    def predict_video(self, item: Input) -> None:
        try:
            reader = VideoReader(item.path)
            self.results.write_video(item, self._predict_frames(item, reader), reader.rate)
            self.outcome.done.append(item)
            if reader.frames_read < reader.length:
                self.outcome.warnings.append(
                    f'{item.path} may be truncated: {reader.frames_read} frames could be decoded, '
                    f'its header says {reader.length}'
                )
        except ValueError as error:
            self.outcome.failures.append(str(error))
        except _FailedError as reason:
            self.outcome.failures.append(f'{item.path} could not be predicted: {reason}')
        except OSError as error:
            self._report_long_name(item, error)

    def _report_long_name(self, item: Input, error: OSError) -> None:
        """Record the failure if only the name is at fault; any other error ends the run."""
        if error.errno != errno.ENAMETOOLONG:
            raise error
        self.outcome.failures.append(
            f'{item.path} has no results: their names, which add an extension to its own, would '
            'be too long for the file system; rename it.'
        )

    def _read(self, item: Input) -> np.ndarray | None:
        try:
            return read_image(item.path)
        except ValueError as error:
            self.outcome.failures.append(str(error))
            return None

    def _predict_each(
        self, read: Sequence[tuple[Input, np.ndarray]]
    ) -> list[tuple[Input, Predicted]]:
        """Predict a batch; if that fails, one by one, so that only the bad ones fail."""
        try:
            predicted = self._predict([image for _, image in read])
        except _FailedError as reason:
            if len(read) > 1:
                return [result for one in read for result in self._predict_each([one])]
            item, image = read[0]
            size = f'{image.shape[1]} x {image.shape[0]} pixels'
            self.outcome.failures.append(f'{item.path} ({size}) could not be predicted: {reason}')
            return []
        return [(item, pair) for (item, _), pair in zip(read, predicted, strict=True)]

    def _predict_frames(self, item: Input, reader: VideoReader) -> Iterator[Predicted]:
        task = self.progress.add_task(escape(item.name), total=reader.length or None)
        for frames in _batches(reader, self.predictor.options.batch_size):
            yield from self._predict(frames)
            self.progress.advance(task, len(frames))

    def _predict(self, images: Sequence[np.ndarray]) -> list[Predicted]:
        try:
            predictions = self.predictor.predict(images, self.score_threshold)
        except torch.OutOfMemoryError:
            raise _FailedError(
                'it does not fit into the memory of the GPU; use --tile, a smaller --batch-size '
                'or --device cpu.'
            ) from None
        except Exception as error:  # a pipeline or model can raise anything at odd sizes
            reason = ' '.join(str(error).split()) or 'no reason was given'
            raise _FailedError(f'{type(error).__name__}: {reason}') from error
        return list(zip(images, predictions, strict=True))


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch

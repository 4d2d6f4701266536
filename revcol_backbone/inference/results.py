"""What a run writes for each picture and video, whatever the task."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mmengine.structures import BaseDataElement

from revcol_backbone.inference.inputs import Input
from revcol_backbone.inference.output_folder import PICTURES, OutputFolder
from revcol_backbone.inference.predictor import Predictor
from revcol_backbone.inference.video import VideoWriter

JPEG_OPTIONS = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    # Thin coloured lines fade with fewer samples of colour.
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
Predicted = tuple[np.ndarray, BaseDataElement]


class Results(ABC):
    """Writes the results of one run.

    The record of an input appears last and has the time of the input, so an input with such a
    record is done. The names of the results are that of the input with another suffix added, so
    that no two inputs share one.

    Args:
        out: Where to.
        predictor: Draws the pictures.
        score_threshold: Detections with a lower score are left out.
        pictures: Whether there are pictures to be drawn.
    """

    def __init__(
        self, out: OutputFolder, predictor: Predictor, score_threshold: float, pictures: bool
    ) -> None:
        self.out = out
        self.predictor = predictor
        self.score_threshold = score_threshold
        self.pictures = pictures

    def is_done(self, item: Input) -> bool:
        """Whether an input has results, and has not been changed since."""
        record = self.out / self.record_of(item)
        return record.exists() and record.stat().st_mtime_ns == item.modified

    def write_picture(self, item: Input, predicted: Predicted) -> None:
        """Write everything of a picture."""
        with self._new_record(item) as record:
            self._write_record(record, item, [predicted])
            if self.pictures:
                with self.out.replacing(f'{PICTURES}/{item.name}.jpg') as path:
                    _write_jpeg(path, self._draw(predicted))

    def write_video(self, item: Input, frames: Iterable[Predicted], rate: float) -> None:
        """Write everything of a video; its frames are asked for once, one after the other."""
        with self._new_record(item) as record:
            if not self.pictures:
                self._write_record(record, item, frames)
                return
            with self.out.replacing(f'{PICTURES}/{item.name}.mp4') as path:
                writer = VideoWriter(path, rate)
                try:
                    self._write_record(record, item, self._drawing(frames, writer))
                finally:
                    writer.close()

    @abstractmethod
    def record_of(self, item: Input) -> str:
        """Where the record of an input is, relative to the output folder."""

    @abstractmethod
    def write_summary(self, items: Sequence[Input]) -> Path:
        """Write one file about inputs that are done; returns where."""

    @abstractmethod
    def _write_record(self, path: Path, item: Input, frames: Iterable[Predicted]) -> None:
        """Write what was predicted for a picture (of one frame) or a video."""

    @contextmanager
    def _new_record(self, item: Input) -> Iterator[Path]:
        with self.out.replacing(self.record_of(item)) as path:
            yield path
            os.utime(path, ns=(item.modified, item.modified))

    def _draw(self, predicted: Predicted) -> np.ndarray:
        return self.predictor.draw_page(*predicted, self.score_threshold)

    def _drawing(self, frames: Iterable[Predicted], writer: VideoWriter) -> Iterator[Predicted]:
        for predicted in frames:
            writer.add(self._draw(predicted))
            yield predicted


def _write_jpeg(path: Path, picture: np.ndarray) -> None:
    is_encoded, data = cv2.imencode('.jpg', picture, JPEG_OPTIONS)
    if not is_encoded:
        raise OSError(f'{path.name} of {picture.shape} cannot be encoded; use --no-pictures.')
    path.write_bytes(data.tobytes())

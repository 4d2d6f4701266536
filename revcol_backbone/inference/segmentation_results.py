"""Label maps as PNG, and the share of each class as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from revcol_backbone.inference.inputs import Input
from revcol_backbone.inference.output_folder import CLASS_SHARES, LABEL_MAPS
from revcol_backbone.inference.results import Predicted, Results

LABELS_IN_8_BITS = 256
FRAME_DIGITS = 6


class SegmentationResults(Results):
    """``label_maps/NAME.png``, in the end ``class_shares.csv``, and the pictures.

    A label map has the label of each pixel in one channel, of 16 bits where there are more than
    256 classes. Those of a video's frames are in a folder: ``label_maps/NAME/000000.png``.
    """

    def record_of(self, item: Input) -> str:
        return f'{LABEL_MAPS}/{item.name}{"" if item.is_video else ".png"}'

    def write_summary(self, items: Sequence[Input]) -> Path:
        classes = self.predictor.classes
        with self.out.replacing(CLASS_SHARES) as path, path.open('w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['file', 'frame', *classes])
            for item in items:
                for frame, label_map in self._label_maps_of(item):
                    labels = cv2.imread(str(label_map), cv2.IMREAD_UNCHANGED)
                    pixels = np.bincount(labels.ravel(), minlength=len(classes))
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
        is_small = len(self.predictor.classes) <= LABELS_IN_8_BITS
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

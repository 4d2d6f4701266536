"""The output folder of a run: every file appears whole, and only those of one run are in it."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mmengine.structures import BaseDataElement

from revcol_backbone.inference.media import Input
from revcol_backbone.inference.video import VideoWriter

RUN = 'run.json'
UNFINISHED = '.unfinished_predictions'
VISUALIZATIONS, PREDICTIONS, LABEL_MAPS = 'visualizations', 'predictions', 'label_maps'
ALL_PREDICTIONS, CLASS_SHARES = 'predictions.json', 'class_shares.csv'
RESULTS = (VISUALIZATIONS, PREDICTIONS, LABEL_MAPS, ALL_PREDICTIONS, CLASS_SHARES)
JPEG_OPTIONS = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    # Thin colored lines fade with fewer color samples.
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
Predicted = tuple[np.ndarray, BaseDataElement]
Draw = Callable[[np.ndarray, BaseDataElement], np.ndarray]


class OutputFolder:
    """A folder in which every file appears whole.

    Args:
        root: The folder, created if it is missing.
        identity: What the results depend on, in words.

    Raises:
        OSError: It cannot be written to.
        ValueError: It holds the results of a run with another identity, or files of other origin
            under the names of results.
    """

    def __init__(self, root: Path, identity: Mapping[str, str]) -> None:
        self.root = root
        self._check(dict(identity))
        try:
            shutil.rmtree(root / UNFINISHED, ignore_errors=True)
            (root / UNFINISHED).mkdir(parents=True)
        except OSError as error:
            raise OSError(
                f'{root} cannot be written to ({error.strerror}); choose another --out.'
            ) from None
        with self.replacing(RUN) as path:
            path.write_text(json.dumps(dict(identity), indent=2))

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Give a path to write a file or folder to, and move it to ``name`` once written."""
        partial, final = self.root / UNFINISHED / name, self.root / name
        partial.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            shutil.rmtree(final)
        os.replace(partial, final)

    def close(self) -> None:
        """Remove what was needed only during the run."""
        shutil.rmtree(self.root / UNFINISHED, ignore_errors=True)

    def _check(self, identity: dict[str, str]) -> None:
        run = self.root / RUN
        if not run.is_file():
            foreign = [name for name in RESULTS if (self.root / name).exists()]
            if foreign:
                raise ValueError(
                    f'{self.root} has {" and ".join(foreign)}, which this tool did not write and '
                    'would replace; choose another --out.'
                )
            return
        former = _read_identity(run)
        differences = [
            f'{key} was {former.get(key)}, is {identity.get(key)}'
            for key in {**former, **identity}
            if former.get(key) != identity.get(key)
        ]
        if differences:
            raise ValueError(
                f'{self.root} holds the results of another run ({"; ".join(differences)}); choose '
                'another --out, or remove that folder to replace them.'
            )


def earlier_results(root: Path) -> list[Path]:
    """Return what an earlier run may have written into a folder; nothing if there was none."""
    return [root / name for name in (*RESULTS, UNFINISHED)] if (root / RUN).is_file() else []


class Results(ABC):
    """Writes the results of one run.

    The record of an input is written last and gets the modification time of the input, so an input
    with such a record is done. Results are named after their input with an extension added, so
    that no two inputs share a name.

    Args:
        out: The output folder.
        classes: Class names.
        draw: Draws a prediction onto its image; ``None`` for no visualizations.
    """

    def __init__(
        self,
        out: OutputFolder,
        classes: Sequence[str],
        draw: Draw | None,
    ) -> None:
        self.out = out
        self.classes = classes
        self.draw = draw

    def is_done(self, item: Input) -> bool:
        """Whether an input has results and was not changed since."""
        try:
            record = os.stat(self.out / self.record_of(item))
        except OSError:  # none, or its name would be too long
            return False
        return record.st_mtime_ns == item.modified

    def write_image(self, item: Input, predicted: Predicted) -> None:
        """Write everything about an image."""
        with self._new_record(item) as record:
            self._write_record(record, item, [predicted])
            if self.draw:
                with self.out.replacing(f'{VISUALIZATIONS}/{item.name}.jpg') as path:
                    _write_jpeg(path, self.draw(*predicted))

    def write_video(self, item: Input, frames: Iterable[Predicted], rate: float) -> None:
        """Write everything about a video; its frames are iterated once."""
        with self._new_record(item) as record:
            if not self.draw:
                self._write_record(record, item, frames)
                return
            with (
                self.out.replacing(f'{VISUALIZATIONS}/{item.name}.mp4') as path,
                VideoWriter(path, rate) as writer,
            ):
                self._write_record(record, item, self._drawing(frames, self.draw, writer))

    @abstractmethod
    def record_of(self, item: Input) -> str:
        """Return the path of an input's record, relative to the output folder."""

    @abstractmethod
    def write_summary(self, items: Sequence[Input]) -> Path:
        """Write one file about all inputs that are done, and return its path."""

    @abstractmethod
    def _write_record(self, path: Path, item: Input, frames: Iterable[Predicted]) -> None:
        """Write the predictions of an image (one frame) or a video."""

    @contextmanager
    def _new_record(self, item: Input) -> Iterator[Path]:
        with self.out.replacing(self.record_of(item)) as path:
            yield path
            os.utime(path, ns=(item.modified, item.modified))

    @staticmethod
    def _drawing(
        frames: Iterable[Predicted], draw: Draw, writer: VideoWriter
    ) -> Iterator[Predicted]:
        for predicted in frames:
            writer.add(draw(*predicted))
            yield predicted


def _read_identity(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(
            f'{path} is damaged, so it is unknown what the results beside it depend on; choose '
            'another --out, or remove that folder.'
        )
    return content


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    is_encoded, data = cv2.imencode('.jpg', image, JPEG_OPTIONS)
    if not is_encoded:
        raise OSError(f'{path.name} of {image.shape} cannot be encoded; use --no-visualizations.')
    path.write_bytes(data.tobytes())

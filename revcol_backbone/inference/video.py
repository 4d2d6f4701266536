"""Reading and writing videos frame by frame with OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from revcol_backbone.inference.media import check_regular_file

DEFAULT_RATE = 25.0  # frames per second, where a file does not tell


class VideoReader:
    """The frames of a video.

    Attributes:
        rate: Frames per second.
        length: Number of frames according to the header, which may be wrong; 0 if it has none.
        frames_read: Number of frames decoded so far.

    Raises:
        ValueError: It cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        check_regular_file(path)
        _check_name(path)
        self._capture = cv2.VideoCapture(str(path))
        is_open, self._first = self._capture.read()
        if not is_open:
            raise ValueError(
                f'{path} is not a video that OpenCV can decode, or it is damaged or empty; give '
                'another file or single images.'
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE
        self.frames_read = 0
        self.length = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames once: BGR, uint8 of shape (H, W, 3)."""
        frame, is_read = self._first, True
        while is_read:
            self.frames_read += 1
            yield frame
            is_read, frame = self._capture.read()
        self._capture.release()


class VideoWriter:
    """An MPEG-4 file that is written image by image in a ``with`` block.

    Args:
        path: The file, which ends in ``.mp4``.
        rate: Frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        _check_name(path)
        self._path = path
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0

    def add(self, image: np.ndarray) -> None:
        """Append an image: BGR, uint8 of shape (H, W, 3), all of one size.

        Raises:
            OSError: The file cannot be opened.
        """
        # The codec needs even sides.
        padding = [(0, side % 2) for side in image.shape[:2]]
        image = np.pad(image, [*padding, (0, 0)], mode='edge')
        if self._writer is None:
            code = cv2.VideoWriter_fourcc(*'mp4v')
            size = image.shape[1::-1]
            self._writer = cv2.VideoWriter(str(self._path), code, self._rate, size)
        if not self._writer.isOpened():
            raise OSError(f'OpenCV cannot write the video {self._path}; use --no-visualizations.')
        self._writer.write(image)
        self._frames += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish the file and read it back, because OpenCV does not report a full disk.

        Raises:
            OSError: Images are missing from the file.
        """
        if self._writer is None:
            return
        self._writer.release()
        if kind is not None:
            return
        written = count_frames(self._path)
        if written != self._frames:
            raise OSError(
                f'{self._path.name} has {written} of {self._frames} frames after writing; free '
                'space on the disk, or use --no-visualizations.'
            )


def count_frames(path: Path) -> int:
    """Count the frames of a video by decoding it; 0 if it cannot be opened."""
    capture = cv2.VideoCapture(str(path))
    frames = 0
    while capture.grab():
        frames += 1
    capture.release()
    return frames


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f'the name of {str(path)!a} is not valid UTF-8, which OpenCV needs for a video; '
            'rename it.'
        ) from None

"""Reading and writing videos frame by frame, by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

VIDEO_EXTENSIONS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')
DEFAULT_RATE = 25.0  # frames a second, for a file that tells none


class VideoReader:
    """The frames of a video.

    Attributes:
        rate: Frames a second.
        length: Number of frames by the file's header, which may be wrong; 0 if it tells none.
        frames_read: Number of frames given so far.

    Raises:
        ValueError: It cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path))
        is_open, self._first = self._capture.read()
        if not is_open:
            raise ValueError(
                f'{path} is no video that OpenCV can decode, or it is damaged or empty; give '
                'another file or single pictures.'
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE
        self.frames_read = 0
        self.length = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Give the frames once, BGR, uint8 of shape (H, W, 3)."""
        frame, is_read = self._first, True
        while is_read:
            self.frames_read += 1
            yield frame
            is_read, frame = self._capture.read()
        self._capture.release()


class VideoWriter:
    """An MPEG-4 file that pictures of one size are added to.

    Args:
        path: The file, which ends in ``.mp4``.
        rate: Frames a second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path = path
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None

    def add(self, picture: np.ndarray) -> None:
        """Add a picture, BGR, uint8 of shape (H, W, 3).

        Raises:
            OSError: The file cannot be written.
        """
        # The codec needs even sides.
        padding = [(0, side % 2) for side in picture.shape[:2]]
        picture = np.pad(picture, [*padding, (0, 0)], mode='edge')
        if self._writer is None:
            code = cv2.VideoWriter_fourcc(*'mp4v')
            size = picture.shape[1::-1]
            self._writer = cv2.VideoWriter(str(self._path), code, self._rate, size)
        if not self._writer.isOpened():
            raise OSError(f'OpenCV cannot write the video {self._path}; leave out the pictures.')
        self._writer.write(picture)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()

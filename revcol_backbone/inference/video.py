"""Reading videos frame by frame with OpenCV, and writing them with PyAV or OpenCV."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from revcol_backbone.inference.media import check_regular_file

try:
    import av
except ImportError:  # optional
    av = None

H264_QUALITY = 20  # constant rate factor: 0 is lossless, 23 the default of x264
NO_H264 = (
    'the videos are MPEG-4 Part 2, which browsers do not play; run '
    "`pip install 'revcol-backbone[video]'` for H.264"
)
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
    """An ``.mp4`` file that is written image by image in a ``with`` block.

    With PyAV installed it is H.264, which browsers play; otherwise OpenCV writes MPEG-4 Part 2.

    Args:
        path: The file, which ends in ``.mp4``.
        rate: Frames per second.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, rate: float) -> None:
        path.open('wb').close()  # unlike the encoders, this says why it fails
        self._path = path
        self._encoder = (_OpenCVEncoder if av is None else _PyAVEncoder)(path, rate)
        self._frames = 0

    def add(self, image: np.ndarray) -> None:
        """Append an image: BGR, uint8 of shape (H, W, 3), all of one size.

        Raises:
            OSError: The file cannot be written.
        """
        # Both codecs need even sides.
        padding = [(0, side % 2) for side in image.shape[:2]]
        self._encoder.add(np.pad(image, [*padding, (0, 0)], mode='edge'))
        self._frames += 1

    def close(self) -> None:
        """Finish the file and read it back, because OpenCV does not report a full disk.

        Raises:
            OSError: Images are missing from the file.
        """
        self._encoder.close()
        written = count_frames(self._path)
        if written != self._frames:
            raise OSError(
                f'{self._path.name} has {written} of {self._frames} frames after writing; free '
                'space on the disk, or use --no-visualizations.'
            )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            with contextlib.suppress(OSError):
                self._encoder.close()


class _OpenCVEncoder:
    def __init__(self, path: Path, rate: float) -> None:
        _check_name(path)
        self.path = path
        self.rate = rate
        self.writer: cv2.VideoWriter | None = None

    def add(self, image: np.ndarray) -> None:
        if self.writer is None:
            code = cv2.VideoWriter.fourcc(*'mp4v')
            self.writer = cv2.VideoWriter(str(self.path), code, self.rate, image.shape[1::-1])
        if not self.writer.isOpened():
            raise OSError(f'OpenCV cannot write the video {self.path}; use --no-visualizations.')
        self.writer.write(image)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.release()


class _PyAVEncoder:
    def __init__(self, path: Path, rate: float) -> None:
        _check_name(path)
        self.name = path.name
        self.container = av.open(str(path), 'w')
        self.stream = self.container.add_stream(
            'h264', rate=Fraction(rate).limit_denominator(1001), options={'crf': str(H264_QUALITY)}
        )
        self.stream.pix_fmt = 'yuv420p'  # the only format that all browsers play
        self.has_frames = False

    def add(self, image: np.ndarray) -> None:
        if not self.has_frames:
            self.stream.height, self.stream.width = image.shape[:2]
            self.has_frames = True
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='bgr24')
        with self._errors():
            self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        with self._errors(), self.container:
            if self.has_frames:
                self.container.mux(self.stream.encode())

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            raise OSError(
                f'the video {self.name} cannot be written ({error.strerror}); free space on the '
                'disk, or use --no-visualizations.'
            ) from error


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
            f'the name of {str(path)!a} is not valid UTF-8, which videos need; rename it.'
        ) from None

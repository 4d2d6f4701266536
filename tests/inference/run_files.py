"""Files to predict, and a run of a command as a user would start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.configs import ROOT
from tests.tiny_data import COLOURS

BOX = (20, 10, 50, 30)  # left, top, right, bottom of a red box in every picture
SIZE = (60, 90)  # height and width of every picture
RATE = 5.0


def picture() -> np.ndarray:
    """A grey picture with a red box, BGR."""
    image = np.full((*SIZE, 3), 128, np.uint8)
    left, top, right, bottom = BOX
    image[top:bottom, left:right] = COLOURS[0]
    return image


def write_every_kind(folder: Path) -> list[str]:
    """The same picture in every kind that has to be understood; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture()[:, :, ::-1])
    image.save(folder / 'colour.png')
    image.convert('P', palette=Image.Palette.ADAPTIVE).save(folder / 'palette.png')
    image.convert('RGBA').save(folder / 'transparent.png')
    cv2.imwrite(str(folder / '16_bit.png'), picture().astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned counter-clockwise by a quarter
    image.transpose(Image.Transpose.ROTATE_270).save(folder / 'turned.png', exif=exif)
    image.convert('L').save(folder / 'grey.png')
    image.crop((0, 0, 1, 1)).save(folder / 'one_pixel.png')
    return sorted(path.name for path in folder.iterdir())


def write_bad_ones(folder: Path) -> list[str]:
    """Files that are no pictures by their content; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'empty.jpg').write_bytes(b'')
    (folder / 'text.png').write_text('no picture')
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    data = cv2.imencode('.jpg', noise)[1].tobytes()
    (folder / 'cut_short.jpg').write_bytes(data[: len(data) // 2])
    (folder / 'text.mp4').write_text('no video')
    return ['cut_short.jpg', 'empty.jpg', 'text.mp4', 'text.png']


def write_video(path: Path, frames: int) -> None:
    """The same picture as a video."""
    code = cv2.VideoWriter_fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(path), code, RATE, SIZE[::-1])
    for _ in range(frames):
        writer.write(picture())
    writer.release()


def read_video(path: Path) -> list[np.ndarray]:
    """The frames of a video."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return frames
        frames.append(frame)


def interrupt(tool: str, arguments: list, blocked: Path, records: Path, sent: int):
    """Start a tool, let it wait for the content of one picture, and send it a signal there.

    Args:
        tool: Name of the tool.
        arguments: Its command line.
        blocked: The picture, from which nothing can be read until the tool has ended.
        records: Folder of the records of the pictures, in the order of their names.
        sent: The signal.

    Returns:
        Its exit status, what it wrote to stderr, and the records of the pictures before.
    """
    kept = blocked.rename(blocked.with_suffix('.kept'))
    os.mkfifo(blocked)
    number = sorted(blocked.parent.glob(f'*{blocked.suffix}')).index(blocked)
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / tool), *map(str, arguments)]
    environment = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    process = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # Shells let what they start in the background ignore Ctrl-C, and so all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and len(list(records.glob('*'))) < number:
        time.sleep(0.05)
    process.send_signal(sent)
    _, errors = process.communicate()
    kept.replace(blocked)
    found = sorted(records.iterdir())
    assert len(found) == number, errors
    return process.returncode, errors, found

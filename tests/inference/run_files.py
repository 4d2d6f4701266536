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
from tests.tiny_data import COLORS

BOX = (20, 10, 50, 30)  # left, top, right, bottom of a red box in every image
SIZE = (60, 90)  # height and width of every image
RATE = 5.0


def red_box_image() -> np.ndarray:
    """A gray image with a red box, BGR."""
    image = np.full((*SIZE, 3), 128, np.uint8)
    left, top, right, bottom = BOX
    image[top:bottom, left:right] = COLORS[0]
    return image


def write_every_kind(folder: Path) -> list[str]:
    """The same image in every kind that has to be understood; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(red_box_image()[:, :, ::-1])
    image.save(folder / 'color.png')
    image.convert('P', palette=Image.Palette.ADAPTIVE).save(folder / 'palette.png')
    image.convert('RGBA').save(folder / 'transparent.png')
    cv2.imwrite(str(folder / '16_bit.png'), red_box_image().astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned counter-clockwise by a quarter
    image.transpose(Image.Transpose.ROTATE_270).save(folder / 'turned.png', exif=exif)
    image.convert('L').save(folder / 'gray.png')
    image.crop((0, 0, 1, 1)).save(folder / 'one_pixel.png')
    return sorted(path.name for path in folder.iterdir())


def write_bad_ones(folder: Path) -> list[str]:
    """Files that are no images by their content; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'empty.jpg').write_bytes(b'')
    (folder / 'text.png').write_text('not an image')
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    data = cv2.imencode('.jpg', noise)[1].tobytes()
    (folder / 'cut_short.jpg').write_bytes(data[: len(data) // 2])
    (folder / 'text.mp4').write_text('no video')
    return ['cut_short.jpg', 'empty.jpg', 'text.mp4', 'text.png']


def write_video(path: Path, frames: int) -> None:
    """The same image as a video."""
    code = cv2.VideoWriter_fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(path), code, RATE, SIZE[::-1])
    for _ in range(frames):
        writer.write(red_box_image())
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


def interrupt(tool: str, arguments: list, records: Path, after: int, sent: int):
    """Start a tool, and send it a signal when it has written some records.

    Args:
        tool: Name of the tool.
        arguments: Its command line.
        records: Folder of the records of the images.
        after: Number of records to wait for.
        sent: The signal.

    Returns:
        Its exit status, what it wrote to stderr, and the records that are there.
    """
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
    while process.poll() is None and len(list(records.glob('*'))) < after:
        time.sleep(0.01)
    process.send_signal(sent)
    _, errors = process.communicate()
    return process.returncode, errors, sorted(records.iterdir())

"""The images and videos of an input: finding them, and decoding images as a model takes them.

A decoded image is upright BGR with 8 bits a channel.
"""

from __future__ import annotations

import glob
import io
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_EXTENSIONS = (
    *('.bmp', '.gif', '.jpeg', '.jpg', '.pgm'),
    *('.png', '.ppm', '.tif', '.tiff', '.webp'),
)
VIDEO_EXTENSIONS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')
_WHITE = (255, 255, 255, 255)


@dataclass(frozen=True, order=True)
class Input:
    """An image or a video.

    Attributes:
        path: The file.
        name: Base name of its results: relative to the folder of the run, with forward slashes.
        modified: Time of the last modification in nanoseconds.
    """

    path: Path
    name: str
    modified: int

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_EXTENSIONS


@dataclass(frozen=True)
class Inputs:
    """What an input consists of.

    Attributes:
        folder: The folder that the names are relative to.
        found: Images and videos, sorted.
        skipped: Files that are neither.
    """

    folder: Path
    found: tuple[Input, ...]
    skipped: tuple[Path, ...]


def find_inputs(source: str | Path, exclude: Iterable[Path] = ()) -> Inputs:
    """Find images and videos by their extensions.

    Args:
        source: A file, a folder (searched with its subfolders) or a glob (``**`` for any depth).
            Links to folders are not followed.
        exclude: Files and folders to ignore, such as earlier results.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: There are no images or videos.
    """
    path = Path(source)
    if path.is_dir():
        folder, files = path, [file for file in path.rglob('*') if not file.is_dir()]
    elif os.path.lexists(path):
        folder, files = path.parent, [path]
    else:
        folder, files = _expand(path)
        if not files:
            raise FileNotFoundError(
                f'{source} is not a file or folder, and no file matches it; correct INPUT.'
            )
    files = _without(sorted(files), exclude)
    known = {*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS}
    found = [file for file in files if file.suffix.lower() in known]
    if not found:
        raise ValueError(
            f'{source} has no images or videos; their names end in {", ".join(sorted(known))}.'
        )
    return Inputs(
        folder=Path(os.path.realpath(folder)),
        found=tuple(
            Input(file, file.relative_to(folder).as_posix(), _modified(file)) for file in found
        ),
        skipped=tuple(file for file in files if file not in set(found)),
    )


def read_image(source: str | Path | bytes) -> np.ndarray:
    """Decode an image as viewers show it.

    It is rotated according to its EXIF orientation. Gray, palette and CMYK become color, 16 bits
    become 8, transparent pixels become white, and of an animation the first frame is read.

    Args:
        source: A file or its bytes.

    Returns:
        BGR, uint8 of shape (H, W, 3).

    Raises:
        ValueError: It is missing, empty, damaged, too large or not an image.
    """
    name = 'The file' if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _read_bytes(Path(source))
    if not data:
        raise ValueError(f'{name} is empty; copy or download it again.')
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            rgb = np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except Image.DecompressionBombError as error:
        raise ValueError(f'{name} is too large to be decoded safely: {error}.') from None
    except Exception as error:  # a broken or crafted file can raise anything
        reason = 'unknown format' if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(
            f'{name} is not an image, or it is damaged or truncated ({reason}); give a '
            f'{", ".join(extension[1:] for extension in IMAGE_EXTENSIONS)} file.'
        ) from None
    return np.ascontiguousarray(rgb[:, :, ::-1])


def check_regular_file(path: Path) -> None:
    """Check that a path is a file whose content ends.

    Raises:
        ValueError: It is missing, or a folder, a named pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}.') from None
    if not stat.S_ISREG(mode):
        kind = {stat.S_IFDIR: 'folder', stat.S_IFIFO: 'named pipe'}.get(
            stat.S_IFMT(mode), 'device or socket'
        )
        raise ValueError(f'{path} is a {kind}, not a file; give a file.')


def _read_bytes(path: Path) -> bytes:
    check_regular_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}.') from None


def _expand(pattern: Path) -> tuple[Path, list[Path]]:
    """Return the folder that every match of a glob is in, and the files that match."""
    parts = pattern.parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    folder, rest = Path(*parts[:fixed]), parts[fixed:]
    if not rest:
        return folder.parent, []
    if rest[-1] == '**':  # which pathlib takes for folders only
        rest = (*rest, '*')
    return folder, [match for match in folder.glob(str(Path(*rest))) if not match.is_dir()]


def _without(files: list[Path], exclude: Iterable[Path]) -> list[Path]:
    # `realpath` rather than `resolve`, which fails for links that lead in a circle.
    excluded = {os.path.realpath(path) for path in exclude}
    if not excluded:
        return files
    kept = []
    for file in files:
        real = Path(os.path.realpath(file))
        if excluded.isdisjoint(map(str, (real, *real.parents))):
            kept.append(file)
    return kept


def _modified(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # a link that leads nowhere, which fails when it is read
        return 0


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == 'F' or image.mode.startswith('I'):
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        page = Image.new('RGBA', image.size, _WHITE)
        image = Image.alpha_composite(page, image.convert('RGBA'))
    return image.convert('RGB')


def _to_8_bits(gray: np.ndarray) -> np.ndarray:
    """Scale 16-bit values, and floating-point ones between 0 and 1."""
    largest = 1.0 if gray.dtype.kind == 'f' else 65535.0
    if not (gray.min() >= 0 and gray.max() <= largest):
        raise ValueError(
            f'its values range from {gray.min()} to {gray.max()}; 0 to {largest:g} is supported'
        )
    return np.rint(gray.astype(np.float64) * (255 / largest)).astype(np.uint8)

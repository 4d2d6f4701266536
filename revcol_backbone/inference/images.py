"""Decoding any picture to what a model takes: upright BGR with 8 bits a channel."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
_PAGE = (255, 255, 255, 255)  # white, behind transparent pixels


def read_image(source: str | Path | bytes) -> np.ndarray:
    """Decode a picture as a person sees it.

    Turned upright by its EXIF orientation; grey, palette and CMYK become colour; 16 bits become 8;
    transparent pixels lie on white; of an animation the first frame is taken.

    Args:
        source: A file or its bytes.

    Returns:
        BGR, uint8 of shape (H, W, 3).

    Raises:
        ValueError: It is missing, empty, damaged, too large or no picture.
    """
    name = 'The file' if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _read_bytes(Path(source))
    if not data:
        raise ValueError(f'{name} is empty; copy or download it again.')
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            rgb = np.asarray(_to_rgb(upright))
    except Image.DecompressionBombError as error:
        raise ValueError(f'{name} is too large to be decoded safely: {error}.') from None
    except Exception as error:  # a broken or crafted file can raise anything
        reason = 'unknown format' if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(
            f'{name} is no picture, or it is damaged or cut short ({reason}); give a '
            f'{", ".join(extension[1:] for extension in EXTENSIONS)} file.'
        ) from None
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}.') from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == 'F' or image.mode.startswith('I'):
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        page = Image.new('RGBA', image.size, _PAGE)
        image = Image.alpha_composite(page, image.convert('RGBA'))
    return image.convert('RGB')


def _to_8_bits(grey: np.ndarray) -> np.ndarray:
    """Scale 16-bit values, and floating-point ones between 0 and 1."""
    largest = 1.0 if grey.dtype.kind == 'f' else 65535.0
    if not (grey.min() >= 0 and grey.max() <= largest):
        raise ValueError(
            f'its values reach from {grey.min()} to {grey.max()}, where 0 to {largest:g} are '
            'understood'
        )
    return np.rint(grey.astype(np.float64) * (255 / largest)).astype(np.uint8)

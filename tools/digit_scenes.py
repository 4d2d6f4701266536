"""Scenes of handwritten digits on photographs, composed with exact masks.

The 1,797 digits of scikit-learn are placed, with random size, color, rotation and overlap, on crops
of its two photographs.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass

import cv2
import numpy as np
from sklearn.datasets import load_digits, load_sample_images

SPLITS = ('train', 'val')
# A change to what is drawn has to raise this, so that older data sets are not taken for new ones.
FORMAT_VERSION = 1
VAL_FRACTION = 0.2
DIGITS_PER_SCENE = (2, 5)
TRIES_PER_DIGIT = 4  # before a scene is left with fewer digits
DIGIT_SIZE = (0.34, 0.6)  # height of a digit over the height of the image
MAX_ROTATION = 15.0  # degrees
MIN_VISIBLE = 0.75  # share of a digit's pixels that later digits must leave visible
MIN_AREA = 0.002  # visible pixels of a digit over the pixels of the image
PHOTO_BRIGHTNESS = 0.45  # photographs are dimmed to this share, so that digits stand out
SATURATION = (0.2, 0.6)
BRIGHTNESS = (0.85, 1.0)
MIN_CONTRAST = 0.3  # distance of colors, in units of black to white
INK_THRESHOLD = 0.45  # how much ink, of at most 1, counts as digit
SMOOTHING = 8  # how much the 8 x 8 pictures of ink are enlarged before they are placed
SUPERSAMPLING = 2  # a digit's edge is drawn this many times finer, then averaged


@dataclass(frozen=True)
class Settings:
    """What decides every byte of a data set.

    Args:
        train (int): Number of training images.
        val (int): Number of validation images.
        size (int): Height and width of the images in pixels, at least 64.
        seed (int): Seed of everything random.
        version (int): Version of the drawing itself.
    """

    train: int = 2000
    val: int = 200
    size: int = 128
    seed: int = 0
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.train < 1 or self.val < 1:
            raise ValueError(
                f'train={self.train} and val={self.val} were given, '
                'but each split needs at least one image.'
            )
        if self.size < 64:
            raise ValueError(f'size={self.size} was given, but images need at least 64 pixels.')


@dataclass(frozen=True)
class Instance:
    """One digit of a scene.

    Args:
        source (int): Index of the digit in ``sklearn.datasets.load_digits``.
        digit (int): Its class, 0 to 9.
        color (np.ndarray): Its RGB color, uint8 of shape (3,).
        mask (np.ndarray): Its visible pixels, bool of shape (H, W).
    """

    source: int
    digit: int
    color: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """One composed image with its ground truth.

    Args:
        image (np.ndarray): RGB image, uint8 of shape (H, W, 3).
        background (np.ndarray): The same before digits were drawn.
        instances (list[Instance]): The digits, the lowest first.
    """

    image: np.ndarray
    background: np.ndarray
    instances: list[Instance]

    @property
    def label_map(self) -> np.ndarray:
        """np.ndarray: Class of every pixel, uint8 of shape (H, W); 0 is background."""
        label_map = np.zeros(self.image.shape[:2], np.uint8)
        for instance in self.instances:
            label_map[instance.mask] = instance.digit + 1
        return label_map


class DigitScenes:
    """Composes scenes of handwritten digits on photographs, with their ground truth.

    The digits of the two splits are disjoint. Training scenes lie on the left three quarters of
    the photographs, validation scenes on the right quarter. A scene depends on the seed, its
    split and its index only.

    Args:
        settings (Settings): Counts, image size and seed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        digits = load_digits()
        # One pixel of empty border keeps ink at the edge of the 8 x 8 picture off a hard cut.
        ink = np.pad(digits.images.astype(np.float32) / 16, ((0, 0), (1, 1), (1, 1)))
        self._ink = [_smooth(picture) for picture in ink]
        self._classes = digits.target
        order = np.random.default_rng(settings.seed).permutation(len(self._classes))
        num_val = round(VAL_FRACTION * len(order))
        self._sources = {'val': order[:num_val], 'train': order[num_val:]}
        self._photos = {'train': [], 'val': []}
        for photo in load_sample_images().images:
            border = photo.shape[1] * 3 // 4
            self._photos['train'].append(photo[:, :border])
            self._photos['val'].append(photo[:, border:])

    def scene(self, split: str, index: int) -> Scene:
        """Compose one scene.

        Args:
            split (str): 'train' or 'val'.
            index (int): Index of the scene in its split.

        Returns:
            Scene: The image with its ground truth.
        """
        rng = np.random.default_rng([self.settings.seed, SPLITS.index(split), index])
        background = self._crop_photo(split, rng)
        image = background.copy()
        whole_areas: list[int] = []
        instances: list[Instance] = []
        wanted = rng.integers(DIGITS_PER_SCENE[0], DIGITS_PER_SCENE[1] + 1)
        for _ in range(TRIES_PER_DIGIT * wanted):
            if len(instances) == wanted:
                break
            source = int(rng.choice(self._sources[split]))
            opacity = self._place(source, rng)
            mask = opacity >= 0.5
            below = [i.mask & ~mask for i in instances]
            areas = [*whole_areas, int(mask.sum())]
            if not all(map(self._is_visible, [*below, mask], areas)):
                continue
            color = _contrasting_color(image[mask].mean(axis=0), rng)
            image = _blend(image, color, opacity)
            whole_areas = areas
            instances = [
                Instance(i.source, i.digit, i.color, m)
                for i, m in zip(instances, below, strict=True)
            ]
            instances.append(Instance(source, int(self._classes[source]), color, mask))
        return Scene(image, background, instances)

    def _crop_photo(self, split: str, rng: np.random.Generator) -> np.ndarray:
        photos = self._photos[split]
        photo = photos[rng.integers(len(photos))]
        height, width = photo.shape[:2]
        side = int(rng.integers(min(height, width) // 2, min(height, width) + 1))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = photo[top : top + side, left : left + side]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        dimmed = (crop * PHOTO_BRIGHTNESS).astype(np.uint8)
        return cv2.resize(dimmed, (self.settings.size,) * 2, interpolation=cv2.INTER_AREA)

    def _place(self, source: int, rng: np.random.Generator) -> np.ndarray:
        """Draw one digit at a random place, wholly inside; returns opacity (H, W) in 0..1."""
        size = self.settings.size
        height = size * rng.uniform(*DIGIT_SIZE)
        # A window that holds the digit's 8 x 8 square, a little rotated, and stays inside.
        side = int(1.2 * height) + 1
        left, top = rng.integers(0, size - side + 1, 2)
        opacity = np.zeros((size, size), np.float32)
        opacity[top : top + side, left : left + side] = _enlarge(
            self._ink[source], height, rng.uniform(-MAX_ROTATION, MAX_ROTATION), side
        )
        return opacity

    def _is_visible(self, mask: np.ndarray, whole_area: int) -> bool:
        area = mask.sum()
        return area >= max(MIN_VISIBLE * whole_area, MIN_AREA * mask.size)


def _smooth(picture: np.ndarray) -> np.ndarray:
    fine = tuple(SMOOTHING * side for side in picture.shape)
    return cv2.resize(picture, fine, interpolation=cv2.INTER_CUBIC)


def _enlarge(ink: np.ndarray, height: float, angle: float, side: int) -> np.ndarray:
    """Draw ink, of which `height` is the part inside its border, in a window (side, side)."""
    middle = (len(ink) - 1) / 2
    scale = SUPERSAMPLING * height / (len(ink) - 2 * SMOOTHING)
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    matrix[:, 2] += (SUPERSAMPLING * side - 1) / 2 - middle
    fine = cv2.warpAffine(ink, matrix, (SUPERSAMPLING * side,) * 2)
    covered = (fine >= INK_THRESHOLD).astype(np.float32)
    return cv2.resize(covered, (side, side), interpolation=cv2.INTER_AREA)


def _contrasting_color(behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a random bright RGB color that is not too close to the one behind it."""
    while True:
        hsv = (rng.random(), rng.uniform(*SATURATION), rng.uniform(*BRIGHTNESS))
        color = np.array([round(255 * channel) for channel in hsv_to_rgb(*hsv)], np.uint8)
        if np.linalg.norm(color - behind) / (255 * np.sqrt(3)) >= MIN_CONTRAST:
            return color


def _blend(image: np.ndarray, color: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    blended = image.copy()
    touched = opacity > 0
    share = opacity[touched][:, None]
    blended[touched] = np.rint(image[touched] * (1 - share) + color * share)
    return blended

"""Make a small, real data set for detection, instance and semantic segmentation.

The 1,797 handwritten digits of scikit-learn are placed, with random size, colour, rotation and
overlap, on crops of its two photographs. Every box, mask and label map is exact, because the
scene is composed here. Written as::

    data/digits/
    |-- dataset.json                        the settings that the data set was made with
    |-- images/{train,val}/000000.jpg
    `-- annotations/
        |-- instances_{train,val}.json      COCO instance format, masks as RLE
        `-- {train,val}/000000.png          label maps: 0 is background, digit d is d + 1
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from sklearn.datasets import load_digits, load_sample_images

from revcol_backbone.cli import report_errors

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
MIN_CONTRAST = 0.3  # distance of colours, in units of black to white
INK_THRESHOLD = 0.45  # how much ink, of at most 1, counts as digit
SMOOTHING = 8  # how much the 8 x 8 pictures of ink are enlarged before they are placed
SUPERSAMPLING = 2  # a digit's edge is drawn this many times finer, then averaged
JPEG_QUALITY = 95


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
        colour (np.ndarray): Its RGB colour, uint8 of shape (3,).
        mask (np.ndarray): Its visible pixels, bool of shape (H, W).
    """

    source: int
    digit: int
    colour: np.ndarray
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


class DigitsDataset:
    """Composes scenes of handwritten digits on photographs and writes them as a data set.

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
            colour = _contrasting_colour(image[mask].mean(axis=0), rng)
            image = _blend(image, colour, opacity)
            whole_areas = areas
            instances = [
                Instance(i.source, i.digit, i.colour, m)
                for i, m in zip(instances, below, strict=True)
            ]
            instances.append(Instance(source, int(self._classes[source]), colour, mask))
        return Scene(image, background, instances)

    def write(self, out: Path) -> bool:
        """Write the data set, or keep the one that is there when it has the same settings.

        Everything is made beside ``out`` and renamed at the end, so that an interrupted run
        leaves no half-made data set.

        Args:
            out (Path): Folder of the data set.

        Returns:
            bool: Whether it was written; False when it was there.

        Raises:
            FileExistsError: When ``out`` holds something else.
        """
        settings = asdict(self.settings)
        if out.exists() and any(out.iterdir()):
            found = _read_json(out / 'dataset.json')
            if found == settings:
                return False
            raise FileExistsError(
                f'{out} holds {found or "something that is not a data set of this tool"}, but '
                f'{settings} was asked for: remove that folder or choose another with --out.'
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as temporary:
            whole = Path(temporary) / out.name
            for split in SPLITS:
                self._write_split(whole, split, settings[split])
            (whole / 'dataset.json').write_text(json.dumps(settings))
            os.replace(whole, out)
        return True

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

    def _write_split(self, root: Path, split: str, count: int) -> None:
        images = root / 'images' / split
        label_maps = root / 'annotations' / split
        images.mkdir(parents=True)
        label_maps.mkdir(parents=True)
        coco = {
            'info': {'description': f'Handwritten digits on photographs, {split}'},
            'categories': [{'id': d + 1, 'name': str(d)} for d in range(10)],
            'images': [],
            'annotations': [],
        }
        for index in range(count):
            scene = self.scene(split, index)
            name = f'{index:06d}'
            bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
            _write_image(images / f'{name}.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            _write_image(label_maps / f'{name}.png', scene.label_map)
            height, width = scene.image.shape[:2]
            coco['images'].append(
                {'id': index, 'file_name': f'{name}.jpg', 'height': height, 'width': width}
            )
            for instance in scene.instances:
                annotation_id = len(coco['annotations']) + 1
                coco['annotations'].append(_coco_annotation(instance, annotation_id, index))
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(coco))


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


def _contrasting_colour(behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a random bright RGB colour that is not too close to the one behind it."""
    while True:
        hsv = (rng.random(), rng.uniform(*SATURATION), rng.uniform(*BRIGHTNESS))
        colour = np.array([round(255 * channel) for channel in hsv_to_rgb(*hsv)], np.uint8)
        if np.linalg.norm(colour - behind) / (255 * np.sqrt(3)) >= MIN_CONTRAST:
            return colour


def _blend(image: np.ndarray, colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    blended = image.copy()
    touched = opacity > 0
    share = opacity[touched][:, None]
    blended[touched] = np.rint(image[touched] * (1 - share) + colour * share)
    return blended


def _coco_annotation(instance: Instance, annotation_id: int, image_id: int) -> dict:
    rle = coco_mask.encode(np.asfortranarray(instance.mask.astype(np.uint8)))
    return {
        'id': annotation_id,
        'image_id': image_id,
        'category_id': instance.digit + 1,
        'bbox': coco_mask.toBbox(rle).tolist(),
        'area': int(coco_mask.area(rle)),
        'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
        'iscrowd': 0,
        'source_digit': instance.source,
    }


def _write_image(path: Path, image: np.ndarray, parameters: Sequence[int] = ()) -> None:
    if not cv2.imwrite(str(path), image, list(parameters)):
        raise OSError(f'{path} could not be written: check the space and rights of its folder.')


def _read_json(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.is_file() else None


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Make the data set from the command line."""
    default = Settings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('data/digits'), help='folder to make')
    parser.add_argument('--train', type=int, default=default.train, help='training images')
    parser.add_argument('--val', type=int, default=default.val, help='validation images')
    parser.add_argument('--size', type=int, default=default.size, help='image side in pixels')
    parser.add_argument('--seed', type=int, default=default.seed)
    args = parser.parse_args(arguments)
    settings = Settings(args.train, args.val, args.size, args.seed)
    written = DigitsDataset(settings).write(args.out)
    print(f'{args.out}: {"made" if written else "there already"}, {args.train} + {args.val} images')


if __name__ == '__main__':
    sys.exit(main())

"""Make a small, real data set for detection, instance and semantic segmentation.

The 1,797 handwritten digits of scikit-learn are placed, with random size, color, rotation and
overlap, on crops of its two photographs. Every box, mask and label map is exact, because the
scene is composed here. Written as::

    data/digits/
    |-- dataset.json                        the settings that the data set was made with
    |-- images/{train,val}/000000.jpg
    `-- annotations/
        |-- instances_{train,val}.json      COCO instance format, masks as RLE
        `-- {train,val}/000000.png          label maps: 0 is background, digit d is d + 1
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from digit_scenes import SPLITS, DigitScenes, Instance, Settings
from pycocotools import mask as coco_mask

from revcol_backbone.cli import report_errors

JPEG_QUALITY = 95


class DigitsDataset(DigitScenes):
    """Composes scenes, and writes them as a data set.

    Args:
        settings (Settings): Counts, image size and seed.
    """

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

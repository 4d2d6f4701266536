"""Make a data set of tree crowns, boxes alone, from four annotated aerial photographs.

The photographs and their 951 boxes come with the wheel of deepforest (MIT license), which is
downloaded by pip and read, never installed. Three scenes are cut into overlapping tiles to train
on; the fourth is cut into tiles that do not overlap, to test on. Written as::

    data/trees/
    |-- annotations/{train,val}.json    COCO format with one class, Tree, and no masks
    |-- annotations/scenes.json         the same for the whole photograph of the test
    |-- images/{train,val}/             the tiles
    `-- scenes/                         the whole photograph of the test
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from revcol_backbone.cli import report_errors

PACKAGE = 'deepforest==2.1.0'
FOLDER = 'deepforest/data'
# Two places in Yellowstone, one in Florida, one in the Sierra Nevada; the second is held out.
SCENES = {
    'train': ('2019_YELL_2_528000_4978000_image_crop2', 'OSBS_029', 'SOAP_061'),
    'val': ('2019_YELL_2_541000_4977000_image_crop',),
}
CATEGORIES = [{'id': 1, 'name': 'Tree'}]  # living and dead ones, which one scene tells apart
MIN_VISIBLE = 0.5  # of a box's area; a crown that a tile cuts further counts for its neighbor
Box = tuple[float, float, float, float]  # x, y, width, height in pixels


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parse_arguments(arguments)
    if args.tile < 64 or not 0 <= args.overlap < args.tile:
        raise ValueError(
            f'--tile {args.tile} --overlap {args.overlap} is not possible; give a tile of at least '
            '64 pixels and a smaller overlap.'
        )
    if args.out.exists():
        raise ValueError(f'{args.out} exists; remove it, or give another --out.')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out.parent) as folder:
        partial = Path(folder, 'trees')
        partial.mkdir()
        with zipfile.ZipFile(args.wheel or download(Path(folder))) as wheel:
            for split, scenes in SCENES.items():
                # Every crown is to be tested once, so the tiles of the test do not overlap.
                overlap = args.overlap if split == 'train' else 0
                folder = partial / 'images' / split
                content = write_tiles(wheel, scenes, folder, args.tile, overlap)
                write_json(content, partial / f'annotations/{split}.json')
                print(
                    f'{split}: {len(content["images"])} tiles with '
                    f'{len(content["annotations"])} boxes, scenes {", ".join(scenes)}'
                )
            content = write_tiles(wheel, SCENES['val'], partial / 'scenes')
            write_json(content, partial / 'annotations/scenes.json')
        os.replace(partial, args.out)
    print(f'written to {args.out}')


def download(folder: Path) -> Path:
    """Download the wheel by pip and return its path.

    Raises:
        OSError: pip could not; the message has what it said last.
    """
    command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--quiet', '--dest']
    result = subprocess.run(
        [*command, str(folder), PACKAGE], capture_output=True, text=True, check=False
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or [''])[-1]
        raise OSError(f'pip could not download {PACKAGE}: {last}; give its wheel by --wheel.')
    return next(folder.glob('deepforest*.whl'))


def write_tiles(
    wheel: zipfile.ZipFile,
    scenes: Sequence[str],
    folder: Path,
    tile: int | None = None,
    overlap: int = 0,
) -> dict[str, list]:
    """Write some scenes as tiles; returns what their annotation file has to hold.

    Args:
        wheel: The wheel of deepforest.
        scenes: Names of photographs.
        folder: Where to write the images.
        tile: Largest side of a tile in pixels; ``None`` writes the photographs whole.
        overlap: Pixels that neighboring tiles share.

    Raises:
        ValueError: A scene is missing, as in another version of the package.
    """
    content = {'images': [], 'annotations': [], 'categories': CATEGORIES}
    folder.mkdir(parents=True)
    for scene in scenes:
        image, boxes = read_scene(wheel, scene)
        size = tile or max(image.shape)
        for x, y, width, height in cut(image.shape[1], image.shape[0], size, overlap):
            name = f'{scene}_{x}_{y}.png' if tile else f'{scene}.png'
            cv2.imwrite(str(folder / name), image[y : y + height, x : x + width])
            entry = {'id': len(content['images']), 'file_name': name}
            content['images'].append({**entry, 'width': width, 'height': height})
            for box in clip(boxes, x, y, width, height):
                content['annotations'].append(
                    {
                        'id': len(content['annotations']) + 1,
                        'image_id': entry['id'],
                        'category_id': 1,
                        'bbox': list(box),
                        'area': box[2] * box[3],
                        'iscrowd': 0,
                    }
                )
    return content


def write_json(content: dict[str, list], path: Path) -> None:
    """Write an annotation file; its folder is made if it is missing."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding='utf-8')


def read_scene(wheel: zipfile.ZipFile, scene: str) -> tuple[np.ndarray, list[Box]]:
    """Read a photograph (H, W, 3), BGR, and its boxes, from Pascal VOC's format.

    Raises:
        ValueError: The wheel does not have them.
    """
    try:
        data = np.frombuffer(wheel.read(f'{FOLDER}/{scene}.png'), np.uint8)
        root = ElementTree.fromstring(wheel.read(f'{FOLDER}/{scene}.xml'))
    except KeyError as error:
        raise ValueError(f'the wheel has no {error.args[0]}; take that of {PACKAGE}.') from None
    boxes = []
    for corners in root.iter('bndbox'):
        left, top, right, bottom = (
            float(corners.findtext(name)) for name in ('xmin', 'ymin', 'xmax', 'ymax')
        )
        boxes.append((left - 1, top - 1, right - left + 1, bottom - top + 1))  # VOC counts from 1
    return cv2.imdecode(data, cv2.IMREAD_COLOR), boxes


def cut(width: int, height: int, tile: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut an image into equal tiles of at most ``tile`` pixels a side: x, y, width, height."""
    for top, bottom in _intervals(height, tile, overlap):
        for left, right in _intervals(width, tile, overlap):
            yield left, top, right - left, bottom - top


def clip(boxes: Sequence[Box], x: int, y: int, width: int, height: int) -> Iterator[Box]:
    """Clip boxes to a tile, in its coordinates; those that are mostly outside are left out."""
    for left, top, box_width, box_height in boxes:
        right, bottom = min(left + box_width, x + width), min(top + box_height, y + height)
        inner_left, inner_top = max(left, x), max(top, y)
        inner_width, inner_height = right - inner_left, bottom - inner_top
        if min(inner_width, inner_height) <= 0:
            continue
        if inner_width * inner_height >= MIN_VISIBLE * box_width * box_height:
            yield inner_left - x, inner_top - y, inner_width, inner_height


def _intervals(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    if length <= tile:
        return [(0, length)]
    if overlap == 0:
        count = -(-length // tile)
        edges = [round(index * length / count) for index in range(count + 1)]
        return list(zip(edges[:-1], edges[1:], strict=True))
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(index * (length - tile) / (count - 1)) for index in range(count)]
    return [(start, start + tile) for start in starts]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--out', type=Path, default=Path('data/trees'), help='folder (default: %(default)s)'
    )
    parser.add_argument('--wheel', type=Path, help=f'the wheel of {PACKAGE} (default: download it)')
    parser.add_argument(
        '--tile', type=int, default=400, metavar='PIXELS', help='largest side (default: 400)'
    )
    parser.add_argument(
        '--overlap', type=int, default=100, metavar='PIXELS', help='in training (default: 100)'
    )
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

"""Split a COCO annotation file in two: its first images and the others, or at random.

    python tools/split_annotations.py annotations/zhiyuan_objv2_val.json --first 5000

writes `zhiyuan_objv2_val_first5000.json` and `zhiyuan_objv2_val_after5000.json` beside it. Images
stay where they are; each goes to one of the two with all its annotations.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parse_arguments(arguments)
    content = json.loads(args.annotations.read_text(encoding='utf-8'))
    for part, subset in zip(('first', 'after'), split(content, args.first, args.seed), strict=True):
        path = args.annotations.with_name(f'{args.annotations.stem}_{part}{args.first}.json')
        text = json.dumps(subset)
        write_atomically(path, lambda partial, text=text: partial.write_text(text))
        print(f'{path}: {len(subset["images"])} images, {len(subset["annotations"])} annotations')


def split(
    content: dict[str, Any], count: int, seed: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the content of a COCO annotation file.

    Args:
        content: Its ``images``, ``annotations`` and anything else, which both parts keep.
        count: Images in the first part.
        seed: Shuffle the images first; ``None`` keeps their order in the file.

    Returns:
        The first ``count`` images with their annotations, and the others with theirs.

    Raises:
        ValueError: It has no list of images and annotations, or too few images for two parts.
    """
    missing = {'images', 'annotations'} - content.keys()
    if missing:
        raise ValueError(f'the file has no {" and no ".join(sorted(missing))}; give a COCO file.')
    images = list(content['images'])
    if not 0 < count < len(images):
        raise ValueError(
            f'{count} of {len(images)} images leave nothing to split; '
            f'give --first from 1 to {len(images) - 1}.'
        )
    if seed is not None:
        random.Random(seed).shuffle(images)
    return _keep(content, images[:count]), _keep(content, images[count:])


def _keep(content: dict[str, Any], images: list[dict[str, Any]]) -> dict[str, Any]:
    ids = {image['id'] for image in images}
    annotations = [entry for entry in content['annotations'] if entry['image_id'] in ids]
    return {**content, 'images': images, 'annotations': annotations}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('annotations', type=Path, help='the COCO file to split')
    parser.add_argument(
        '--first', type=int, required=True, metavar='N', help='images in the first part'
    )
    parser.add_argument('--seed', type=int, help="shuffle first (default: the file's order)")
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

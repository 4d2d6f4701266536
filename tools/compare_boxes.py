"""Draw what `tools/infer_det.py` predicted beside the ground truth, as boxes without names.

    python tools/compare_boxes.py results/predictions.json ANNOTATIONS IMAGES --out figure.jpg

prints precision and recall at an IoU of 0.5 too: how many of the drawn boxes are right, and how
many objects were found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.ops import box_iou

from revcol_backbone.cli import report_errors

PREDICTED, TRUE = (0, 220, 255), (255, 255, 255)  # BGR
GAP = 8  # pixels between the two copies


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parse_arguments(arguments)
    predicted = json.loads(args.predictions.read_text(encoding='utf-8'))
    truth = json.loads(args.annotations.read_text(encoding='utf-8'))
    name = args.image or truth['images'][0]['file_name']
    found = boxes_of(predicted, name, args.score_thr)
    true = boxes_of(truth, name)
    image = cv2.imread(str(args.images / name))
    if image is None:
        raise ValueError(f'{args.images / name} cannot be read as an image.')
    matched = match(found, true)
    print(
        f'{name}: {len(found)} boxes of score {args.score_thr} or more, {len(true)} objects, '
        f'{matched} matched: precision {matched / max(len(found), 1):.2f}, '
        f'recall {matched / max(len(true), 1):.2f}'
    )
    pair = [draw(image, found, PREDICTED), draw(image, true, TRUE)]
    gap = np.full((image.shape[0], GAP, 3), 255, np.uint8)
    figure = np.hstack([pair[0], gap, pair[1]])
    height = round(figure.shape[0] * args.width / figure.shape[1])
    figure = cv2.resize(figure, (args.width, height), interpolation=cv2.INTER_AREA)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.out), figure):
        raise ValueError(f'{args.out} cannot be written as an image.')


def boxes_of(content: dict, name: str, score_thr: float = 0.0) -> torch.Tensor:
    """Corners (N, 4) of an image's boxes, the surest first.

    Raises:
        ValueError: The file does not have the image.
    """
    ids = {Path(entry['file_name']).name: entry['id'] for entry in content['images']}
    if name not in ids:
        raise ValueError(f'{name} is not in the file; its images are {", ".join(sorted(ids))}.')
    entries = [
        entry
        for entry in content['annotations']
        if entry['image_id'] == ids[name] and entry.get('score', 1.0) >= score_thr
    ]
    entries.sort(key=lambda entry: -entry.get('score', 1.0))
    boxes = torch.tensor([entry['bbox'] for entry in entries], dtype=torch.float).reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def match(found: torch.Tensor, true: torch.Tensor, threshold: float = 0.5) -> int:
    """Count the found boxes that overlap an object which no surer box has taken."""
    overlap = box_iou(found, true)
    count = 0
    for row in range(len(found)):
        if len(true) and overlap[row].max() >= threshold:
            overlap[:, overlap[row].argmax()] = 0
            count += 1
    return count


def draw(image: np.ndarray, boxes: torch.Tensor, color: tuple[int, int, int]) -> np.ndarray:
    """Copy an image with boxes on it."""
    copy = image.copy()
    for left, top, right, bottom in boxes.round().int().tolist():
        cv2.rectangle(copy, (left, top), (right, bottom), color, 2)
    return copy


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', type=Path, help='predictions.json of infer_det.py')
    parser.add_argument('annotations', type=Path, help='COCO file of the ground truth')
    parser.add_argument('images', type=Path, help='folder of the images')
    parser.add_argument('--image', help='file name of the image (default: the first one)')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='the figure')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, metavar='S', help='lowest score (default: 0.3)'
    )
    parser.add_argument(
        '--width', type=int, default=1200, metavar='PIXELS', help='of the figure (default: 1200)'
    )
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

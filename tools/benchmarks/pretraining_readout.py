"""How well the levels of a backbone tell digits apart, read out by a linear classifier.

    python tools/benchmarks/pretraining_readout.py
    python tools/benchmarks/pretraining_readout.py CHECKPOINT ...

Without training the backbone: its features within the boxes of the quickstart's training images are
the input of a logistic regression, which is tested on the boxes of validation images. Shows what a
detector finds in a pre-trained backbone on whole scenes. The default checkpoints are those of
tools/benchmarks/pretraining.py; a new backbone is measured beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torchvision.ops import roi_align

from revcol_backbone import RevCol
from revcol_backbone.pretraining.classifier import MEAN, STD

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'data/digits'
ARCH = dict(channels=(24, 48, 96, 192), layers=(1, 1, 1, 1), columns=4, long_up=False)
NEW = dict(type='Xavier', layer=['Conv2d', 'Linear'])  # as the quickstart starts
STRIDES = (4, 8, 16, 32)
CELLS = 2  # features of a box are averaged in so many cells a side
INVERSE_PENALTY = 0.01


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the accuracy from each level."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoints', nargs='*', type=Path, default=last_checkpoints())
    parser.add_argument('--train', type=int, default=300, help='training images')
    parser.add_argument('--val', type=int, default=150, help='validation images')
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    scenes = {split: read_scenes(split, getattr(args, split)) for split in ('train', 'val')}
    print('| backbone | level 0 | 1 | 2 | 3 |\n|---|---|---|---|---|')
    for checkpoint in (None, *args.checkpoints):
        accuracies = measure(make_backbone(checkpoint), scenes)
        name = checkpoint.parents[1].name if checkpoint else 'new'
        print(f'| {name} | {" | ".join(f"{100 * value:.1f}" for value in accuracies)} |')


def last_checkpoints() -> list[Path]:
    """The last checkpoint of each pre-training of the benchmark."""
    runs = sorted((ROOT / 'work_dirs/pretraining').glob('pre-trained*/run'))
    return [max(run.glob('epoch_*.pth')) for run in runs if any(run.glob('epoch_*.pth'))]


def make_backbone(checkpoint: Path | None) -> RevCol:
    """The quickstart's backbone with four columns, new or with a file's weights."""
    torch.manual_seed(0)
    start = dict(type='Pretrained', checkpoint=str(checkpoint)) if checkpoint else NEW
    backbone = RevCol(ARCH, init_cfg=start)
    backbone.init_weights()
    return backbone.eval()


def read_scenes(split: str, count: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Normalized images (N, 3, H, W), boxes (M, 5) with the image's number first, and classes."""
    coco = COCO(str(DATA / f'annotations/instances_{split}.json'))
    images, boxes, classes = [], [], []
    for number, image in enumerate(coco.loadImgs(coco.getImgIds()[:count])):
        rgb = cv2.imread(str(DATA / 'images' / split / image['file_name']))[..., ::-1] / 255
        images.append((rgb - MEAN) / STD)
        for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
            x, y, width, height = annotation['bbox']
            boxes.append([number, x, y, x + width, y + height])
            classes.append(annotation['category_id'])
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return stacked, torch.tensor(boxes, dtype=torch.float32), np.array(classes)


def measure(backbone: RevCol, scenes: dict[str, tuple[Tensor, Tensor, np.ndarray]]) -> list[float]:
    """The share of the validation boxes that is classified rightly, from each level."""
    train, val = (box_features(backbone, *scenes[split][:2]) for split in ('train', 'val'))
    accuracies = []
    for train_level, val_level in zip(train, val, strict=True):
        readout = make_pipeline(
            StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=300)
        )
        readout.fit(train_level, scenes['train'][2])
        accuracies.append(readout.score(val_level, scenes['val'][2]))
    return accuracies


@torch.no_grad()
def box_features(backbone: RevCol, images: Tensor, boxes: Tensor) -> list[np.ndarray]:
    """Of every level the features (M, C * CELLS**2) in the boxes."""
    batches = [backbone(batch) for batch in images.split(25)]
    levels = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    return [
        roi_align(level, boxes, CELLS, 1 / stride, sampling_ratio=2).flatten(1).numpy()
        for level, stride in zip(levels, STRIDES, strict=True)
    ]


if __name__ == '__main__':
    main()

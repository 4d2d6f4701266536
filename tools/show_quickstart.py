"""Show what the quickstart reached: one table of figures, and predictions beside ground truth."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from mmengine.fileio import load
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from revcol_backbone.cli import report_errors

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

WANTED = {'box AP': 0.50, 'mask AP': 0.45, 'mIoU': 0.60}
MINUTES_WANTED = 15  # on two idle CPU cores; a busy machine takes longer
SCORE_THRESHOLD = 0.5
SCENES_PER_PICTURE = 4
PICTURES = 3
ENLARGEMENT = 3
# Ten colours, none of them grey, that stay apart on the dim photographs.
COLOURS = [
    to_rgb(code)
    for code in (
        *('#4363d8', '#f58231', '#3cb44b', '#e6194b', '#b45ad6'),
        *('#c08040', '#f032e6', '#ffe119', '#42d4f4', '#bfef45'),
    )
]


@dataclass(frozen=True)
class Digit:
    """One digit to draw.

    Args:
        name (str): What to write beside it.
        label (int): Class, 0 to 9.
        box (Sequence[float]): Left, top, right and bottom in pixels.
        mask (np.ndarray): Its pixels, bool of shape (H, W).
    """

    name: str
    label: int
    box: Sequence[float]
    mask: np.ndarray


def read_figures(work_dir: Path) -> dict[str, float]:
    """Read what `mim test` reported.

    Args:
        work_dir (Path): Folder with ``cascade/test`` and ``upernet/test``.

    Returns:
        dict[str, float]: Box AP, mask AP and mIoU, each 0 to 1.
    """
    detection = _newest_metrics(work_dir / 'cascade' / 'test')
    segmentation = _newest_metrics(work_dir / 'upernet' / 'test')
    return {
        'box AP': detection['coco/bbox_mAP'],
        'mask AP': detection['coco/segm_mAP'],
        'mIoU': segmentation['mIoU'] / 100,
    }


def read_minutes(work_dir: Path) -> dict[str, float]:
    """Read how long each part took, interrupted runs included.

    Args:
        work_dir (Path): Folder with ``seconds.txt``, lines of a name and seconds.

    Returns:
        dict[str, float]: Minutes of each part, in order.
    """
    minutes: dict[str, float] = {}
    for line in (work_dir / 'seconds.txt').read_text().splitlines():
        name, seconds = line.split()
        minutes[name] = minutes.get(name, 0) + int(seconds) / 60
    return minutes


def format_table(figures: dict[str, float], minutes: dict[str, float]) -> str:
    """Lay out the figures beside what is wanted.

    Args:
        figures (dict[str, float]): As from :func:`read_figures`.
        minutes (dict[str, float]): As from :func:`read_minutes`.

    Returns:
        str: The table, a line each.
    """
    rows = [('', 'reached', 'wanted')]
    rows += [(name, f'{figures[name]:.3f}', f'>= {WANTED[name]:.2f}') for name in WANTED]
    rows += [(f'minutes, {name}', f'{value:.1f}', '') for name, value in minutes.items()]
    rows.append(
        ('minutes, all', f'{sum(minutes.values()):.1f}', f'<= {MINUTES_WANTED} on two idle cores')
    )
    width = max(len(row[0]) for row in rows)
    return '\n'.join(f'{row[0]:<{width}}  {row[1]:>7}  {row[2]}'.rstrip() for row in rows)


def draw_pictures(work_dir: Path, data: Path) -> list[Path]:
    """Draw the first validation scenes: predictions and ground truth of both tasks.

    Args:
        work_dir (Path): Folder with the dumped predictions, and for the pictures.
        data (Path): Folder of the data set.

    Returns:
        list[Path]: The pictures' files.
    """
    coco = COCO(str(data / 'annotations' / 'instances_val.json'))
    predictions = load(work_dir / 'cascade' / 'test' / 'predictions.pkl')
    by_image = {prediction['img_id']: prediction for prediction in predictions}
    image_ids = sorted(by_image)
    paths = []
    for number in range(PICTURES):
        chosen = image_ids[number * SCENES_PER_PICTURE : (number + 1) * SCENES_PER_PICTURE]
        rows = [_read_row(work_dir, data, coco, by_image[image_id]) for image_id in chosen]
        path = work_dir / f'predictions_{number + 1}.png'
        _draw_rows(rows, path)
        paths.append(path)
    return paths


def _newest_metrics(test_dir: Path) -> dict[str, float]:
    # mmengine writes TIMESTAMP/TIMESTAMP.json once the whole set is evaluated.
    files = sorted(p for p in test_dir.glob('*/*.json') if p.stem == p.parent.name)
    if not files:
        raise FileNotFoundError(f'{test_dir} has no results: run tools/quickstart.sh again.')
    return json.loads(files[-1].read_text())


def _read_row(work_dir: Path, data: Path, coco: COCO, prediction: dict) -> tuple:
    name = coco.imgs[prediction['img_id']]['file_name']
    image = cv2.cvtColor(cv2.imread(str(data / 'images' / 'val' / name)), cv2.COLOR_BGR2RGB)
    label_map = Path(name).with_suffix('.png').name
    return (
        image,
        _predicted_digits(prediction['pred_instances']),
        _true_digits(coco, prediction['img_id']),
        _read_label_map(work_dir / 'upernet' / 'test' / 'label_maps' / label_map),
        _read_label_map(data / 'annotations' / 'val' / label_map),
    )


def _predicted_digits(instances: dict) -> list[Digit]:
    return [
        Digit(f'{label}: {score:.0%}', int(label), box.tolist(), coco_mask.decode(mask) > 0)
        for label, score, box, mask in zip(
            instances['labels'],
            instances['scores'],
            instances['bboxes'],
            instances['masks'],
            strict=True,
        )
        if score >= SCORE_THRESHOLD
    ]


def _true_digits(coco: COCO, image_id: int) -> list[Digit]:
    digits = []
    for annotation in coco.imgToAnns[image_id]:
        left, top, width, height = annotation['bbox']
        name = coco.cats[annotation['category_id']]['name']
        mask = coco.annToMask(annotation) > 0
        digits.append(Digit(name, int(name), (left, top, left + width, top + height), mask))
    return digits


def _read_label_map(path: Path) -> np.ndarray:
    label_map = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if label_map is None:
        raise FileNotFoundError(f'{path} is missing: remove its folder and run the test again.')
    return label_map


def _draw_rows(rows: list[tuple], path: Path) -> None:
    figure, axes = plt.subplots(len(rows), 4, figsize=(12, 3 * len(rows) + 0.4), squeeze=False)
    titles = ('detector', 'ground truth', 'segmentor', 'ground truth')
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=13)
    for row_axes, (image, predicted, true, predicted_map, true_map) in zip(axes, rows, strict=True):
        _draw_digits(row_axes[0], image, predicted)
        _draw_digits(row_axes[1], image, true)
        _draw_label_map(row_axes[2], image, predicted_map)
        _draw_label_map(row_axes[3], image, true_map)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _show_image(axis: plt.Axes, image: np.ndarray, strength: float = 1.0) -> None:
    size = (image.shape[1] * ENLARGEMENT, image.shape[0] * ENLARGEMENT)
    large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    axis.imshow(np.rint(255 - strength * (255.0 - large)).astype(np.uint8), extent=_extent(image))
    axis.set_axis_off()


def _extent(image: np.ndarray) -> tuple[float, float, float, float]:
    return (0, image.shape[1], image.shape[0], 0)


def _draw_digits(axis: plt.Axes, image: np.ndarray, digits: list[Digit]) -> None:
    _show_image(axis, image, strength=0.85)
    for digit in digits:
        colour = COLOURS[digit.label]
        left, top, right, bottom = digit.box
        axis.contour(
            np.arange(image.shape[1]) + 0.5,
            np.arange(image.shape[0]) + 0.5,
            digit.mask,
            levels=[0.5],
            colors=[colour],
            linewidths=1.5,
        )
        overlay = np.zeros((*digit.mask.shape, 4))
        overlay[digit.mask] = (*colour, 0.6)
        axis.imshow(overlay, extent=_extent(image), interpolation='nearest')
        axis.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, lw=1.5)
        )
        axis.text(
            left,
            top,
            digit.name,
            color='black' if np.mean(colour) > 0.5 else 'white',
            fontsize=8,
            va='bottom',
            bbox={'facecolor': colour, 'edgecolor': 'none', 'pad': 1},
        )


def _draw_label_map(axis: plt.Axes, image: np.ndarray, label_map: np.ndarray) -> None:
    _show_image(axis, image, strength=0.85)
    overlay = np.zeros((*label_map.shape, 4))
    for label, colour in enumerate(COLOURS, start=1):
        overlay[label_map == label] = (*colour, 0.9)
    axis.imshow(overlay, extent=_extent(image), interpolation='nearest')


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and save the pictures; the exit status is 1 if a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'))
    parser.add_argument('--data', type=Path, default=Path('data/digits'))
    args = parser.parse_args(arguments)
    figures = read_figures(args.work_dir)
    pictures = draw_pictures(args.work_dir, args.data)
    print(f'\n{format_table(figures, read_minutes(args.work_dir))}\n')
    print('Predictions beside ground truth:', *pictures)
    missed = [name for name, wanted in WANTED.items() if figures[name] < wanted]
    if missed:
        raise ValueError(f'{" and ".join(missed)} missed what is wanted.')


if __name__ == '__main__':
    sys.exit(main())

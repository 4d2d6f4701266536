"""Show the columns of a RevCol: feature maps, and similarity to input and prediction.

    python tools/visualize_columns.py CONFIG CHECKPOINT images/ --out work_dirs/columns
    python tools/visualize_columns.py CONFIG images/ --shape 512 512 --batch-size 16 --out DIR

CONFIG is that of a detector, a segmentor or a bare RevCol (`model = dict(type='RevCol', ...)`).
Without CHECKPOINT the weights are those that training starts from (`init_cfg`, which may download).
IMAGES is a folder, a quoted glob or an image; every image is resized to cover one size and
center-cropped. The output:

- features_NAME.png: every level of every column for the first images, bright where the channels
  differ most from their mean over the image;
- reconstructions_NAME.png, where the model is a RevColClassifier with intermediate supervision: the
  pictures that its decoders rebuild from the columns, beside the input;
- cka.png, cka.json: linear CKA (unbiased, over minibatches) of every level of every column with
  (a) the input, the pixels as the network receives them, and (b) the final prediction: for
  a segmentor, the scores of every class at every pixel. A detector and a bare backbone have no such
  prediction; theirs is the top level of the last column, whose similarity to itself is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.utils import ProgressBar
from torch import Tensor, nn

from revcol_backbone import RevCol
from revcol_backbone.analysis.cka import MinibatchCKA, split_evenly
from revcol_backbone.analysis.columns import watch_columns
from revcol_backbone.analysis.network_input import cover, describe_batch, find_images, make_batch
from revcol_backbone.analysis.reconstructions import draw_reconstructions, rebuilds
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors
from revcol_backbone.column import Features
from revcol_backbone.engine.building import build_model, read_model_config, require_revcol
from revcol_backbone.inference.loading import choose_device
from revcol_backbone.inference.media import read_image
from revcol_backbone.variants import LEVELS

matplotlib.use('agg')
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

INPUT, SCORES = 'input', 'class scores'
TOP_LEVEL = "last column's top level"
DOTS_PER_INCH = 110
BRIGHTEST = 99  # percentile of a map that the brightest color stands for


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``None`` means the command line of this process."""
    visualize(parse_arguments(arguments))


def visualize(args: argparse.Namespace) -> None:
    """Run the network over the images, and write the figures."""
    paths = find_images(args.images)
    batches = split_evenly(len(paths), args.batch_size)
    device = torch.device(choose_device(args.device))
    model = build_model(read_model_config(args.config), args.checkpoint, device)
    revcol = require_revcol(model, args.config)
    if args.checkpoint is None:
        # mmengine logs a line for every parameter.
        MMLogger.get_current_instance().setLevel('WARNING')
        model.init_weights()
    shape = args.shape or read_image(paths[0]).shape[:2]

    cka, written = MinibatchCKA(), []
    progress = ProgressBar(len(paths), file=sys.stderr)
    for batch in batches:
        images = [cover(read_image(paths[index]), *shape) for index in batch]
        inputs = make_batch(model, images, device)
        columns, references = run(model, revcol, inputs)
        features = {
            feature_name(column, level): levels[level]
            for column, levels in enumerate(columns)
            for level in range(LEVELS)
        }
        cka.update(features, references)
        for index in batch[: max(args.feature_maps - len(written), 0)]:
            maps = [[spread(level[index - batch[0]]) for level in levels] for levels in columns]
            figure = draw_features(images[index - batch[0]], maps, paths[index].name)
            written.append(save(figure, args.out / f'features_{paths[index].stem}.png'))
            if rebuilds(revcol, inputs):
                image = inputs[index - batch[0]]
                figure = draw_reconstructions(revcol, image, paths[index].name)
                written.append(save(figure, args.out / f'reconstructions_{paths[index].stem}.png'))
        progress.update(len(batch))
    print(file=sys.stderr)

    tables = tabulate(cka.compute(), revcol.columns)
    title = f'{args.config.stem}: {cka.images} images of {shape[0]} x {shape[1]}'
    written.append(save(draw_cka(tables, title), args.out / 'cka.png'))
    content = {
        'config': str(args.config),
        'checkpoint': args.checkpoint and str(args.checkpoint),
        'shape': list(shape),
        'images': cka.images,
        'minibatches': cka.batches,
        # JSON has no NaN; where a feature is the same for all images, there is no similarity.
        'cka': {name: np.where(np.isnan(t), None, t).tolist() for name, t in tables.items()},
    }
    text = json.dumps(content, indent=2) + '\n'
    written.append(
        write_atomically(args.out / 'cka.json', lambda partial: partial.write_text(text))
    )
    for name, table in tables.items():
        print(format_table(name, table))
    print('\nWritten:', *written)


@torch.no_grad()
def run(
    model: nn.Module, revcol: RevCol, inputs: Tensor
) -> tuple[list[Features], dict[str, Tensor]]:
    """One forward pass.

    Args:
        model: In evaluation mode.
        revcol: Its backbone.
        inputs: Shape (B, 3, H, W).

    Returns:
        Every column's levels, and what to compare them with by its name: the input and the final
        prediction.
    """
    columns: list[Features] = []
    with watch_columns(revcol, lambda index, column, levels: columns.append(levels)):
        if hasattr(model, 'encode_decode'):
            prediction = {SCORES: model.encode_decode(inputs, describe_batch(inputs))}
        else:
            revcol(inputs)
            prediction = {TOP_LEVEL: columns[-1][-1]}
    return columns, {INPUT: inputs, **prediction}


def feature_name(column: int, level: int) -> str:
    """A level's name, that of its module."""
    return f'subnet{column}.level{level}'


def tabulate(similarity: dict[tuple[str, str], float], columns: int) -> dict[str, np.ndarray]:
    """CKA by reference, shape (levels, columns)."""
    references = dict.fromkeys(reference for _, reference in similarity)
    return {
        reference: np.array(
            [
                [similarity[feature_name(column, level), reference] for column in range(columns)]
                for level in range(LEVELS)
            ]
        )
        for reference in references
    }


def format_table(name: str, table: np.ndarray) -> str:
    """CKA in text, the top level first as in the figure."""
    lines = [f'\nCKA with the {name}; column' + ''.join(f'{i:>7}' for i in range(table.shape[1]))]
    width = len(lines[0]) - 7 * table.shape[1] - 1
    for level in reversed(range(LEVELS)):
        values = ''.join(f'{value:7.3f}' for value in table[level])
        lines.append(f'level {level}'.rjust(width) + values)
    return '\n'.join(lines)


def spread(features: Tensor) -> np.ndarray:
    """Where a level's channels depart from their means over the image: their root mean square.

    Args:
        features: Shape (C, h, w).

    Returns:
        Shape (h, w).
    """
    centered = features.double() - features.double().mean((1, 2), keepdim=True)
    return centered.square().mean(0).sqrt().cpu().numpy()


def draw_features(image: np.ndarray, maps: list[list[np.ndarray]], name: str) -> Figure:
    """The image, and of every column a row of levels, top level first, each on its own scale.

    Args:
        image: BGR, shape (H, W, 3).
        maps: For every column its levels' maps.
        name: That of the image.
    """
    height = 1.35 * min(max(image.shape[0] / image.shape[1], 0.5), 2)
    figure = plt.figure(figsize=(1.7 * (len(maps) + 2.4), height * LEVELS + 0.9))
    figure.set_layout_engine('constrained')
    left, right = figure.subfigures(1, 2, width_ratios=(1.9, len(maps) + 0.5))
    whole = left.subplots()
    whole.imshow(image[:, :, ::-1])
    whole.set_title(name, fontsize=9)
    whole.set_axis_off()
    grid = right.subplots(LEVELS, len(maps), squeeze=False)
    for column, levels in enumerate(maps):
        for level, values in enumerate(levels):
            axes = grid[LEVELS - 1 - level, column]
            top = np.percentile(values, BRIGHTEST)
            shown = axes.imshow(values / top if top > 0 else values, cmap='magma', vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        grid[0, column].set_title(f'column {column}', fontsize=9)
    for level in range(LEVELS):
        stride = 2 ** (level + 2)
        grid[LEVELS - 1 - level, 0].set_ylabel(f'level {level}\nstride {stride}', fontsize=9)
    bar = right.colorbar(shown, ax=grid, shrink=0.6, ticks=[0, 1], aspect=30)
    bar.ax.set_yticklabels(['0', f'{BRIGHTEST}th\npercentile'], fontsize=8)
    bar.set_label('departure of the channels from their means', fontsize=8)
    return figure


def draw_cka(tables: dict[str, np.ndarray], title: str) -> Figure:
    """A heat map for each reference, top level first."""
    columns = next(iter(tables.values())).shape[1]
    size = (2 * max(0.62 * columns, 2.6) + 1.6, 3.4)
    figure, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, layout='constrained')
    figure.suptitle(title, fontsize=10)
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        shown = axis.imshow(table, cmap='viridis', vmin=0, vmax=1, origin='lower', aspect='auto')
        axis.set_title(f'CKA with the {name}', fontsize=9)
        axis.set(xticks=range(columns), yticks=range(LEVELS), xlabel='column')
        axis.set_yticklabels([f'level {level}' for level in range(LEVELS)])
        for (level, column), value in np.ndenumerate(table):
            text = 'n/a' if np.isnan(value) else f'{value:.2f}'
            color = 'black' if value > 0.6 or np.isnan(value) else 'white'
            axis.text(column, level, text, ha='center', va='center', color=color, fontsize=8)
    figure.colorbar(shown, ax=axes, label='CKA')
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure."""
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=DOTS_PER_INCH, format='png'))
    plt.close(figure)
    return path


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path)
    parser.add_argument('checkpoint', type=Path, nargs='?', help='trained weights of the config')
    parser.add_argument('images', help='folder, quoted glob or image')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='size of the images; default: that of the first one',
    )
    parser.add_argument(
        '--batch-size', type=int, default=8, help='images in a minibatch, at least 4; default 8'
    )
    parser.add_argument(
        '--feature-maps',
        type=int,
        default=1,
        metavar='N',
        help='draw the feature maps of the first N images; default 1',
    )
    parser.add_argument('--device', help='default: a GPU if there is one')
    # Intermixed, so that options may stand between the positional arguments.
    return parser.parse_intermixed_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

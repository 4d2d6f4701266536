"""Parameters and multiply-adds of each part of a config's model, for one image.

    python tools/get_flops.py CONFIG --shape 800 1280

Counted as the published tables count (their FLOPs are multiply-adds): convolutions, matrix products
and involutions of one image of 3 channels in evaluation mode; a detector's backbone, neck and RPN
once, 1,000 proposals through each box stage and 100 through each mask stage; a segmentor with its
auxiliary head. No normalization, activation, pooling, interpolation, RoIAlign or post-processing.
Nothing is published for DINO and Mask2Former: their transformers are counted likewise, in one
pass with all queries, and without the sampling of the deformable attention.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from revcol_backbone.analysis.flops import (
    BOX_PROPOSALS,
    MASK_PROPOSALS,
    OTHER,
    build_on_meta,
    count_by_part,
    count_parameters,
    count_transformer_by_part,
    has_transformer,
)
from revcol_backbone.cli import report_errors
from revcol_backbone.engine.building import read_model_config

# Those of the published figures: COCO, ADE20K at a crop of 512, ImageNet.
SHAPES = {'mmdet': (800, 1280), 'mmseg': (512, 2048), None: (224, 224)}


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    # What the libraries say about themselves would tear the table apart.
    warnings.filterwarnings('ignore', category=UserWarning)
    config = read_model_config(args.config)
    shape = args.shape or SHAPES.get(config.get('default_scope'), SHAPES[None])
    model = build_on_meta(config)
    parameters = count_parameters_by_part(model)
    count = count_transformer_by_part if has_transformer(model) else count_by_part
    multiply_adds = count(model, *shape)
    print(f'{args.config.stem}: {type(model).__name__}, one image of {shape[0]} x {shape[1]}\n')
    print(format_table(parameters, multiply_adds))
    print(f'\n{describe_convention(model)}')


def count_parameters_by_part(model: nn.Module) -> dict[str, int]:
    """Parameters of each part that counts have too; a RoI head's by its heads."""
    if not hasattr(model, 'backbone'):
        return {'backbone': count_parameters(model)}
    parts = dict(model.named_children())
    roi_head = parts.pop('roi_head', None)
    if roi_head is not None:
        parts |= {f'roi_head.{name}': part for name, part in roi_head.named_children()}
    counts = {name: count_parameters(part) for name, part in parts.items()}
    counts[OTHER] = count_parameters(model) - sum(counts.values())
    return {name: count for name, count in counts.items() if count}


def format_table(parameters: dict[str, int], multiply_adds: dict[str, int]) -> str:
    """A row for each part, and the sums."""
    names = [name for name in dict.fromkeys([*parameters, *multiply_adds]) if name != OTHER]
    names += [OTHER] if OTHER in parameters or OTHER in multiply_adds else []
    total = sum(multiply_adds.values())
    rows = [('part', 'parameters', 'multiply-adds', 'share')]
    rows += [
        _row(name, parameters.get(name, 0), multiply_adds.get(name, 0), total) for name in names
    ]
    rows.append(_row('all', sum(parameters.values()), total, total))
    width = max(len(row[0]) for row in rows)
    return '\n'.join(f'{row[0]:<{width}} {row[1]:>12} {row[2]:>14} {row[3]:>7}' for row in rows)


def _row(name: str, parameters: int, count: int, total: int) -> tuple[str, str, str, str]:
    return name, f'{parameters / 1e6:.2f}M', f'{count / 1e9:.2f}G', f'{count / total:.1%}'


def describe_convention(model: nn.Module) -> str:
    """How this model was counted, in a sentence or two."""
    if has_transformer(model):
        return (
            'Counted in one pass; nothing is published to compare with. Left out: the sampling of '
            'the deformable attention, and turning queries into results.'
        )
    if hasattr(model, 'roi_head'):
        return (
            f'Published convention: {BOX_PROPOSALS:,} proposals through each box stage, '
            f'{MASK_PROPOSALS:,} through each mask stage, everything else once.'
        )
    return 'Published convention: everything once, auxiliary heads included.'


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path)
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='rows and columns of the image; default: 800 1280 for a detector, 512 2048 for a '
        'segmentor, 224 224 for a bare backbone, as in the published figures',
    )
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

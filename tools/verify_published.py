"""Parameters and FLOPs of every published RevCol and RedNet model beside the published figures.

FLOPs are multiply-adds, as in the published tables: half of what torch's FlopCounterMode counts,
for one image of 3 channels in evaluation mode, on the meta device. A detector is its backbone, neck
and RPN once, 1,000 proposals through each box stage and 100 through each mask stage; a segmentor
includes its auxiliary head.

A figure is met within 1% (parameters) or 3% (FLOPs), or if ours prints as the same digits. Where a
published figure cannot be right, the table says why, and ours is held against an own count instead.
The exit status is 1 if a figure is missed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

import revcol_backbone.involution  # noqa: F401  (registers RedNet)
from revcol_backbone.analysis.flops import (
    Classifier,
    build_on_meta,
    count_parameters,
    model_multiply_adds,
)
from revcol_backbone.cli import report_errors
from revcol_backbone.published import (
    BACKBONES,
    CLASSIFIERS,
    DETECTORS,
    SEGMENTORS,
    PublishedModel,
    parse_figure,
)

ROOT = Path(__file__).parents[1]
PARAMETER_TOLERANCE, FLOP_TOLERANCE = 0.01, 0.03
SECTIONS = {
    'Backbones': BACKBONES,
    'Classification, ImageNet, 224 x 224': CLASSIFIERS,
    'Detection, COCO, 1280 x 800': DETECTORS,
    'Segmentation, ADE20K 2048 x 512 and 2560 x 640, Cityscapes 2048 x 1024': SEGMENTORS,
}
ROW = '{:<34} {:>15} {:>15} {:>8}   {:>9} {:>9} {:>8}   {}'
HEADER = ROW.format(
    'model', 'parameters', 'published', 'differ', 'FLOPs', 'published', 'differ', 'verdict'
)


@dataclass(frozen=True)
class Comparison:
    """One figure of ours beside the published one.

    ``met`` says whether they agree; ``by_rounding``, that they do only in the printed digits.
    """

    ours: str
    published: str
    difference: str
    met: bool
    by_rounding: bool = False


@report_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; returns the exit status."""
    wanted = parse_arguments(arguments).models
    sections = {
        title: [model for model in models if _is_wanted(model, wanted)]
        for title, models in SECTIONS.items()
    }
    if not any(sections.values()):
        raise ValueError(
            f'no published model has {" or ".join(wanted)} in its name; omit MODEL to see all.'
        )
    # What the libraries say about themselves would tear the tables apart.
    warnings.filterwarnings('ignore', category=UserWarning)
    missed = 0
    for title, models in sections.items():
        if models:
            print(f'\n{title}\n{HEADER}', flush=True)
            missed += sum(not verify(model) for model in models)
    print(f'\n{missed} missed' if missed else '\nEvery figure that can be right is met.')
    return 1 if missed else 0


def verify(model: PublishedModel) -> bool:
    """Print one row, and say whether our figures agree with the published ones."""
    network = _build(model)
    count = count_parameters(network)
    parameters = compare(count, model.parameters, PARAMETER_TOLERANCE)
    flops = None
    if model.size:
        flops = compare(model_multiply_adds(network, *model.size), model.flops, FLOP_TOLERANCE)
    verdict, is_met = _judge(model, count, parameters, flops)
    figures = [
        text
        for figure in (parameters, flops or Comparison('-', '-', '', met=True))
        for text in (figure.ours, figure.published, figure.difference)
    ]
    print(ROW.format(model.name, *figures, verdict), flush=True)
    return is_met


def compare(ours: int, published: str | None, tolerance: float) -> Comparison:
    """Hold a count against a printed figure.

    Args:
        ours: The count.
        published: The figure as printed; ``None`` where none was published.
        tolerance: Largest relative difference that counts as met.
    """
    if published is None:
        return Comparison(_format(ours, None), '-', '', met=True)
    value, half_digit = parse_figure(published)
    difference = ours / value - 1
    is_close, is_same_digits = abs(difference) <= tolerance, abs(ours - value) <= half_digit
    return Comparison(
        _format(ours, published),
        published,
        f'{difference:+.2%}',
        met=is_close or is_same_digits,
        by_rounding=is_same_digits and not is_close,
    )


def _judge(
    model: PublishedModel, count: int, parameters: Comparison, flops: Comparison | None
) -> tuple[str, bool]:
    figures = {'parameters': parameters, 'FLOPs': flops}
    remarks = [
        f'rounds to {figure.published}'
        for figure in figures.values()
        if figure and figure.by_rounding
    ]
    if model.impossible:
        counted = model.impossible.counted
        figures['parameters'] = compare(count, counted, PARAMETER_TOLERANCE)
        remarks.append(
            f'{model.parameters} cannot be right: {model.impossible.reason}; counted {counted}'
        )
    missed = [name for name, figure in figures.items() if figure and not figure.met]
    verdict = f'MISSED {" and ".join(missed)}' if missed else 'ok'
    return '; '.join([verdict, *remarks]), not missed


def _build(model: PublishedModel) -> nn.Module:
    if isinstance(model.model, str):
        return build_on_meta(Config.fromfile(ROOT / model.model))
    with torch.device('meta'):
        backbone = MODELS.build(model.model).eval()
        if model.size is None:
            return backbone
        channels = backbone(torch.empty(1, 3, *model.size))[-1].shape[1]
        return Classifier(backbone, channels, with_norm=model.model['type'] == 'RevCol').eval()


def _format(count: int, like: str | None) -> str:
    """Print a count in full beside a figure in full, and otherwise in millions or billions."""
    if like and like[-1].isdigit():
        return f'{count:,}'
    return f'{count / 1e6:.2f}M' if like and like[-1] in 'MB' else f'{count / 1e9:.2f}G'


def _is_wanted(model: PublishedModel, wanted: Sequence[str]) -> bool:
    text = f'{model.name} {model.model}'.lower()
    return not wanted or any(word.lower() in text for word in wanted)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'models',
        nargs='*',
        metavar='MODEL',
        help='part of the name of a model or of its config, such as RevCol-T; default: all',
    )
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

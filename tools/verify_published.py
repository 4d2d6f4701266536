"""Parameters and FLOPs of every published RevCol and RedNet model beside the published figures.

FLOPs are multiply-adds, as in the published tables: half of what torch's FlopCounterMode counts,
for one image of 3 channels in evaluation mode, on the meta device. A detector is its backbone, neck
and RPN once, 1,000 proposals through each box stage and 100 through each mask stage; a segmentor
includes its auxiliary head.

A figure is met within 1% (parameters) or 3% (FLOPs), or if ours prints as the same digits. Where a
published figure cannot be right, the table says why, and ours is held against an own count instead.
Of IC networks neither was published: they are held within 1% of the basic model, counted likewise.
The exit status is 1 if a figure is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

import revcol_backbone.ic.detection
import revcol_backbone.involution  # noqa: F401  (both register backbones)
from revcol_backbone.analysis.flops import (
    Classifier,
    build_on_meta,
    count_parameters,
    model_multiply_adds,
)
from revcol_backbone.cli import report_errors
from revcol_backbone.model_zoo import IndexedModel, parse_figure, read_model_index

ROOT = Path(__file__).parents[1]
PARAMETER_TOLERANCE, FLOP_TOLERANCE = '1%', '3%'
BACKBONE_PARAMETERS = 'Backbone Parameters'
SECTIONS = {
    'Backbones': (),
    'Detection, COCO, 1280 x 800': ('COCO',),
    'Segmentation, ADE20K 2048 x 512 and 2560 x 640, Cityscapes 2048 x 1024': (
        *('ADE20K', 'Cityscapes'),
    ),
    'Classification, ImageNet, 224 x 224': ('ImageNet-1K',),
}
BASIC_MODEL, BASIC_TITLE = 'Basic Model', 'Beside the basic model, ImageNet, 224 x 224'
BASIC_TOLERANCE = 0.01
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
    args = parse_arguments(arguments)
    wanted = args.models
    models = [model for model in read_model_index(args.index) if _is_wanted(model, wanted)]
    sections = {title: _section(models, datasets) for title, datasets in SECTIONS.items()}
    beside_basic = [model for model in models if BASIC_MODEL in model.metadata]
    if not any(sections.values()) and not beside_basic:
        raise ValueError(
            f'no published model has {" or ".join(wanted)} in its name; omit MODEL to see all.'
        )
    # What the libraries say about themselves would tear the tables apart.
    warnings.filterwarnings('ignore', category=UserWarning)
    missed = 0
    for title, section in sections.items():
        if section:
            print(f'\n{title}\n{HEADER}', flush=True)
            is_backbone = not SECTIONS[title]
            missed += sum(not verify(model, is_backbone) for model in section)
    if beside_basic:
        header = HEADER.replace('published', '    basic')
        print(f'\n{BASIC_TITLE}\n{header}', flush=True)
        missed += sum(not verify_beside_basic(model) for model in beside_basic)
    print(f'\n{missed} missed' if missed else '\nEvery figure that can be right is met.')
    return 1 if missed else 0


def verify(model: IndexedModel, is_backbone: bool = False) -> bool:
    """Print one row, and say whether our figures agree with the published ones.

    Args:
        model: What was published.
        is_backbone: Count its backbone alone.
    """
    network = _build(model, is_backbone)
    count = count_parameters(network)
    if is_backbone:
        published = model.metadata[BACKBONE_PARAMETERS]
        figures = {'parameters': compare(count, published, PARAMETER_TOLERANCE)}
        remarks = []
    else:
        figures, remarks = _compare_model(model, network, count)
    missed = [name for name, figure in figures.items() if not figure.met]
    verdict = f'MISSED {" and ".join(missed)}' if missed else 'ok'
    shown = [
        text
        for name in ('parameters', 'FLOPs')
        for figure in [figures.get(name, Comparison('-', '-', '', met=True))]
        for text in (figure.ours, figure.published, figure.difference)
    ]
    name = model.metadata['Backbone'] if is_backbone else model.name
    print(ROW.format(name, *shown, '; '.join([verdict, *remarks])), flush=True)
    return not missed


def verify_beside_basic(model: IndexedModel) -> bool:
    """Print one row, and say whether parameters and FLOPs are within 1% of the basic model's.

    Args:
        model: One whose own parameters and FLOPs were not published.
    """
    networks = [_build_classifier(model.metadata[key]) for key in ('Backbone Config', BASIC_MODEL)]
    counts = [
        (count_parameters(network), model_multiply_adds(network, *model.flops_shape))
        for network in networks
    ]
    shown, missed = [], []
    for name, unit, ours, basic in zip(('parameters', 'FLOPs'), 'MG', *counts, strict=True):
        like, difference = f'0{unit}', ours / basic - 1
        shown += [_format(ours, like), _format(basic, like), f'{difference:+.2%}']
        missed += [name] * (abs(difference) > BASIC_TOLERANCE)
    verdict = f'MISSED {" and ".join(missed)}' if missed else 'ok'
    print(ROW.format(model.name, *shown, verdict), flush=True)
    return not missed


def compare(ours: int, published: str, tolerance: str) -> Comparison:
    """Hold a count against a printed figure.

    Args:
        ours: The count.
        published: The figure as printed, such as ``'88M'``.
        tolerance: Largest relative difference that counts as met, such as ``'1%'``.
    """
    value, half_digit = parse_figure(published)
    difference = ours / value - 1
    is_close = abs(difference) <= float(tolerance.removesuffix('%')) / 100
    is_same_digits = abs(ours - value) <= half_digit
    return Comparison(
        _format(ours, published),
        published,
        f'{difference:+.2%}',
        met=is_close or is_same_digits,
        by_rounding=is_same_digits and not is_close,
    )


def _compare_model(
    model: IndexedModel, network: nn.Module, count: int
) -> tuple[dict[str, Comparison], list[str]]:
    tolerance = model.metadata.get('Parameters Tolerance', PARAMETER_TOLERANCE)
    figures = {'parameters': compare(count, model.parameters, tolerance)}
    if model.flops:
        multiply_adds = model_multiply_adds(network, *model.flops_shape)
        figures['FLOPs'] = compare(multiply_adds, model.flops, FLOP_TOLERANCE)
    remarks = [f'rounds to {figure.published}' for figure in figures.values() if figure.by_rounding]
    if tolerance != PARAMETER_TOLERANCE:
        remarks.append(f'within {tolerance}')
    if model.counted_parameters:
        shown = figures['parameters']
        own = compare(count, model.counted_parameters, PARAMETER_TOLERANCE)
        figures['parameters'] = dataclasses.replace(shown, met=own.met)
        remarks.append(
            f'{model.parameters} cannot be right: {model.metadata["Parameters Remark"]}; '
            f'counted {model.counted_parameters}'
        )
    return figures, remarks


def _build(model: IndexedModel, is_backbone: bool) -> nn.Module:
    backbone_config = model.metadata.get('Backbone Config')
    if backbone_config is None:
        return build_on_meta(Config.fromfile(ROOT / model.config))
    if is_backbone:
        with torch.device('meta'):
            return MODELS.build(dict(backbone_config))
    return _build_classifier(backbone_config)


def _build_classifier(backbone_config: Mapping[str, object]) -> nn.Module:
    with torch.device('meta'):
        backbone = MODELS.build(dict(backbone_config))
        backbone.eval()  # mmdet's ResNet does not return itself
        channels = backbone(torch.empty(1, 3, 64, 64))[-1].shape[1]
        with_norm = backbone_config['type'] == 'RevCol'
        return Classifier(backbone, channels, with_norm=with_norm).eval()


def _section(models: Sequence[IndexedModel], datasets: Sequence[str]) -> list[IndexedModel]:
    if not datasets:
        return [model for model in models if BACKBONE_PARAMETERS in model.metadata]
    return [model for model in models if model.dataset in datasets and model.parameters]


def _format(count: int, like: str) -> str:
    """Print a count in full beside a figure in full, and otherwise in millions or billions."""
    if like[-1].isdigit():
        return f'{count:,}'
    return f'{count / 1e6:.2f}M' if like[-1] in 'MB' else f'{count / 1e9:.2f}G'


def _is_wanted(model: IndexedModel, wanted: Sequence[str]) -> bool:
    text = f'{model.name} {model.metadata["Backbone"]} {model.metadata["Method"]}'.lower()
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
        help='part of the name of a model, backbone or method, such as RevCol-T; default: all',
    )
    parser.add_argument(
        '--index', type=Path, default=ROOT / 'model-index.yml', help='index of the models'
    )
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

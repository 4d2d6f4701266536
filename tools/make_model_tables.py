"""Write the tables of models in README.md from model-index.yml and its metafiles."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors
from revcol_backbone.model_zoo import IndexedModel, read_model_index

ROOT = Path(__file__).parents[1]
BEGIN, END = '<!-- models:begin -->', '<!-- models:end -->'
NOTE = (
    'All figures are the published ones, not measured here; FLOPs are multiply-adds of one image '
    'of the size beside them.'
)


def make_tables(models: Sequence[IndexedModel]) -> str:
    """Make one Markdown table for each data set and set of metrics, in the order of the models."""
    tables = []
    for dataset, of_dataset in groupby(models, key=lambda model: model.dataset):
        rows = list(of_dataset)
        metrics = list(dict.fromkeys(name for model in rows for name in model.figures))
        tables.append(f'### {dataset}\n\n{_table(rows, metrics)}')
    return '\n\n'.join([NOTE, *tables])


def replace_between_markers(text: str, tables: str) -> str:
    """Put the tables between the markers of a text.

    Raises:
        ValueError: The text does not have each marker once, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f'it needs the lines {BEGIN} and {END}, once each and in this order')
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f'{before}{BEGIN}\n{tables}\n{END}{after}'


def _table(models: Sequence[IndexedModel], metrics: Sequence[str]) -> str:
    header = ['Method', 'Backbone', 'Trained on', *metrics, 'Parameters', 'FLOPs', 'Config', 'File']
    rows = [header, ['---'] * len(header), *(_row(model, metrics) for model in models)]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _row(model: IndexedModel, metrics: Sequence[str]) -> list[str]:
    data = model.metadata
    flops = f'{data["FLOPs"]} ({data["FLOPs Input"]})' if 'FLOPs' in data else ''
    return [
        data['Method'],
        data['Backbone'],
        data['Training Data'],
        *(f'{model.figures[name]:.1f}' if name in model.figures else '' for name in metrics),
        _parameters(data),
        flops,
        f'[{model.name}]({model.config})',
        f'[published]({model.weights})' if model.weights else '',
    ]


def _parameters(data: Mapping[str, Any]) -> str:
    counted = data.get('Parameters Counted')
    published = data.get('Parameters', '')
    return f'{published}, which cannot be right: {counted} counted' if counted else published


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check', action='store_true', help='write nothing; exit with 1 if the tables are old'
    )
    parser.add_argument(
        '--readme', type=Path, default=ROOT / 'README.md', help='file to write (default: README.md)'
    )
    parser.add_argument(
        '--index',
        type=Path,
        default=ROOT / 'model-index.yml',
        help='index to read (default: model-index.yml)',
    )
    return parser.parse_args(arguments)


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    text = args.readme.read_text(encoding='utf-8')
    try:
        new = replace_between_markers(text, make_tables(read_model_index(args.index)))
    except ValueError as error:
        raise ValueError(f'{args.readme} was not written: {error}') from None
    if args.check:
        if new != text:
            raise ValueError(
                f'the tables in {args.readme} are not those of {args.index}; run '
                '`python tools/make_model_tables.py`.'
            )
        return
    write_atomically(args.readme, lambda partial: partial.write_text(new, encoding='utf-8'))


if __name__ == '__main__':
    sys.exit(main())

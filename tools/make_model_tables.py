"""Write the tables of models from model-index.yml: README.md's six rows and docs/model_zoo.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors
from revcol_backbone.model_zoo import IndexedModel, read_model_index

ROOT = Path(__file__).parents[1]
BEGIN, END = '<!-- models:begin -->', '<!-- models:end -->'
# What a visitor of the README looks for.
HEADLINE = (
    'revcol_t_cascade',
    'revcol_l_cascade_in22k',
    'revcol_h_dino',
    'revcol_t_upernet',
    'revcol_l_upernet_in22k',
    'revcol_h_mask2former',
)


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    models = read_model_index(args.index)
    for page, make in ((args.readme, make_headline), (args.zoo, make_zoo)):
        text = page.read_text(encoding='utf-8')
        folder = os.path.relpath(args.index.parent, page.parent)
        try:
            new = replace_between_markers(text, make(models, folder))
        except ValueError as error:
            raise ValueError(f'{page} was not written: {error}') from None
        if not args.check:
            write_atomically(page, lambda partial, new=new: partial.write_text(new, 'utf-8'))
        elif new != text:
            raise ValueError(
                f'the tables in {page} are not those of {args.index}; run '
                '`python tools/make_model_tables.py`.'
            )


def make_headline(models: Sequence[IndexedModel], folder: str = '.') -> str:
    """Make the README's table.

    Args:
        models: Models of an index; those of :data:`HEADLINE` are shown.
        folder: The folder of the index, as seen from the page.
    """
    by_name = {model.name: model for model in models}
    header = ['Data set', 'Model', 'Published', 'Parameters', 'Config']
    rows = [
        [
            model.dataset,
            f'{model.metadata["Method"]}, {model.metadata["Backbone"]}',
            ', '.join(f'{value:.1f} {metric}' for metric, value in model.figures.items()),
            _parameters(model),
            _link(model, folder),
        ]
        for model in (by_name[name] for name in HEADLINE)
    ]
    return _format(header, rows)


def make_zoo(models: Sequence[IndexedModel], folder: str = '.') -> str:
    """Make a table for each data set, in the order of the models; arguments as for the README."""
    tables = []
    for dataset, of_dataset in groupby(models, key=lambda model: model.dataset):
        rows = list(of_dataset)
        metrics = list(dict.fromkeys(name for model in rows for name in model.figures))
        first = ['Method', 'Backbone', 'Trained on']
        header = [*first, *metrics, 'Parameters', 'FLOPs', 'Config', 'File']
        table = _format(header, [_row(model, metrics, folder) for model in rows])
        tables.append(f'## {dataset}\n\n{table}')
    return '\n\n'.join(tables)


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


def _row(model: IndexedModel, metrics: Sequence[str], folder: str) -> list[str]:
    data = model.metadata
    decimals = (
        2 if data['Backbone'].startswith(('RedNet', 'IC-')) and 'top-1' in model.figures else 1
    )
    return [
        data['Method'],
        data['Backbone'],
        data['Training Data'],
        *(
            f'{model.figures[name]:.{decimals}f}' if name in model.figures else ''
            for name in metrics
        ),
        _parameters(model),
        f'{model.flops} ({data["FLOPs Input"]})' if model.flops else '',
        _link(model, folder),
        f'[published]({model.weights})' if model.weights else '',
    ]


def _parameters(model: IndexedModel) -> str:
    if model.counted_parameters:
        return f'{model.parameters}, which cannot be right: {model.counted_parameters} counted'
    return model.parameters or ''


def _link(model: IndexedModel, folder: str) -> str:
    if model.config is None:
        return ''
    return f'[{model.name}]({Path(folder, model.config).as_posix()})'


def _format(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check', action='store_true', help='write nothing; end with 1 if the tables are old'
    )
    for option, path, what in (
        ('--index', 'model-index.yml', 'index to read'),
        ('--readme', 'README.md', 'page of the six rows'),
        ('--zoo', 'docs/model_zoo.md', 'page of all models'),
    ):
        parser.add_argument(
            option, type=Path, default=ROOT / path, metavar='FILE', help=f'{what} (default: {path})'
        )
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

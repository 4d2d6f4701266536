"""The models of ``model-index.yml``: their configs, published files and published figures.

The metafiles are the one place of each published number. Figures stand there as they were printed:
their digits say how exact they are. FLOPs are multiply-adds.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.fileio import load

# The configs, metafiles and tools that come with the package, in the layout that openmim expects.
INSTALLED = Path(__file__).parent / '.mim'
UNITS = {'': 1, 'M': 10**6, 'G': 10**9, 'B': 10**9}


@dataclass(frozen=True)
class IndexedModel:
    """One model of a metafile.

    Args:
        name: Its name, that of its config.
        config: The config, relative to the folder of ``model-index.yml``; ``None`` if this project
            has none.
        metadata: ``Method``, ``Backbone``, ``Training Data`` and other fields of the metafile.
        dataset: The data set of the figures.
        figures: The published figures, in percent, by metric.
        weights: The address of the published file; ``None`` if there is none.
    """

    name: str
    config: str | None
    metadata: Mapping[str, Any]
    dataset: str
    figures: Mapping[str, float]
    weights: str | None

    @property
    def parameters(self) -> str | None:
        """The published number of parameters, such as ``'88M'``."""
        return self.metadata.get('Parameters')

    @property
    def counted_parameters(self) -> str | None:
        """An own count, where the published number of parameters cannot be right."""
        return self.metadata.get('Parameters Counted')

    @property
    def flops(self) -> str | None:
        """The published multiply-adds of one image of :attr:`flops_shape`, such as ``'741G'``."""
        return self.metadata.get('FLOPs')

    @property
    def flops_shape(self) -> tuple[int, int] | None:
        """Height and width of the image that FLOPs were counted for, in pixels."""
        if 'FLOPs Input' not in self.metadata:
            return None
        width, height = map(int, self.metadata['FLOPs Input'].split(' x '))
        return height, width


def read_model_index(path: Path) -> list[IndexedModel]:
    """Read every model that an index names, in its order.

    Args:
        path: A ``model-index.yml``; the metafiles it imports are relative to its folder.

    Raises:
        FileNotFoundError: A file is missing.
    """
    metafiles = (load(path.parent / name) for name in load(path)['Import'])
    return [_model(entry) for metafile in metafiles for entry in metafile['Models']]


def describe_models(models: Sequence[IndexedModel]) -> list[str]:
    """Lay models out as a table: name, data set, published figures, whether there is a file."""
    rows = [('name', 'data set', 'published', 'file')]
    rows += [
        (
            model.name,
            model.dataset,
            ', '.join(f'{value} {metric}' for metric, value in model.figures.items()),
            'published' if model.weights else '-',
        )
        for model in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def find_config(name: str) -> Path:
    """Find a config that is installed with the package by its name.

    Args:
        name: The name, such as ``'revcol_t_cascade'``; ``.py`` may follow.

    Returns:
        The absolute path.

    Raises:
        ValueError: No installed config has this name.
    """
    configs = {path.stem: path for path in sorted(INSTALLED.glob('*_configs/*.py'))}
    if name.removesuffix('.py') not in configs:
        close = difflib.get_close_matches(name, configs, n=3) or ['revcol_t_cascade']
        raise ValueError(
            f'there is neither a file nor an installed config {name!r}; similar names: '
            f'{", ".join(close)}. `revcol config` lists all of them'
        )
    return configs[name.removesuffix('.py')].absolute()


def parse_figure(text: str) -> tuple[float, float]:
    """Read a figure as its value and half of its last digit: ``'4.5G'`` gives 4.5e9 and 5e7."""
    unit = text[-1] if text[-1] in UNITS else ''
    number = text.removesuffix(unit).replace(',', '')
    decimals = len(number.partition('.')[2])
    return float(number) * UNITS[unit], 0.5 * UNITS[unit] / 10**decimals


def _model(entry: Mapping[str, Any]) -> IndexedModel:
    results = entry['Results']
    return IndexedModel(
        name=entry['Name'],
        config=entry.get('Config'),
        metadata=entry['Metadata'],
        dataset=results[0]['Dataset'],
        figures={name: value for result in results for name, value in result['Metrics'].items()},
        weights=entry.get('Weights'),
    )

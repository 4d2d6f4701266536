"""The models of ``model-index.yml``: their configs, published files and published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.fileio import load


@dataclass(frozen=True)
class IndexedModel:
    """One model of a metafile.

    Args:
        name: Its name, that of its config.
        config: The config, relative to the folder of ``model-index.yml``.
        metadata: ``Method``, ``Backbone``, ``Training Data`` and, where they were published,
            ``Parameters``, ``FLOPs`` (multiply-adds) and their ``FLOPs Input``;
            ``Parameters Counted`` where the published number cannot be right.
        dataset: The data set of the figures.
        figures: The published figures, in percent, by metric.
        weights: The address of the published fine-tuned file; ``None`` if there is none.
    """

    name: str
    config: str
    metadata: Mapping[str, Any]
    dataset: str
    figures: Mapping[str, float]
    weights: str | None


def read_model_index(path: Path) -> list[IndexedModel]:
    """Read every model that an index names, in its order.

    Args:
        path: A ``model-index.yml``; the metafiles it imports are relative to its folder.

    Raises:
        FileNotFoundError: A file is missing.
    """
    metafiles = (load(path.parent / name) for name in load(path)['Import'])
    return [_model(entry) for metafile in metafiles for entry in metafile['Models']]


def _model(entry: Mapping[str, Any]) -> IndexedModel:
    results = entry['Results']
    return IndexedModel(
        name=entry['Name'],
        config=entry['Config'],
        metadata=entry['Metadata'],
        dataset=results[0]['Dataset'],
        figures={name: value for result in results for name, value in result['Metrics'].items()},
        weights=entry.get('Weights'),
    )

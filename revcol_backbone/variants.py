"""The six published RevCol variants, and the check of an architecture given by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVELS = 4
_COLUMN_PARAMETER = re.compile(
    r'subnet(?P<column>\d+)\.'
    r'(?:alpha\d|level(?P<level>\d)\.(?:fusion|blocks\.(?P<block>\d+))\.)'
)


@dataclass(frozen=True)
class Architecture:
    """The numbers that make one RevCol.

    Args:
        channels: Width of the four levels (strides 4, 8, 16, 32).
        layers: Blocks in each level of one column.
        columns: Number of columns.
        long_up: Whether level 0 of every column but the first also takes level 3 of the column
            before it (RevCol-H only).
    """

    channels: tuple[int, ...]
    layers: tuple[int, ...]
    columns: int
    long_up: bool = False

    def needed_levels(self, count: int) -> list[int]:
        """How many levels each column has to compute, so that the last one has the first ``count``.

        A level takes the next one of the column before it; ``long_up`` takes the last one.
        """
        needed = [count]
        while len(needed) < self.columns:
            needed.append(LEVELS if self.long_up else min(needed[-1] + 1, LEVELS))
        return needed[::-1]

    def layer_id(self, name: str) -> int | None:
        """Layer id of a RevCol parameter: how far it is from the stem, which has 0.

        A parameter of block ``b``, counted from 0 through the levels of its column, in column
        ``i`` has the id ``1 + b + i``. Fusions take the id of their level's first block; ``alpha``
        takes ``1 + i``.

        Args:
            name: Name within the backbone, such as ``subnet2.level0.fusion.up...``.

        Returns:
            The id, or ``None`` for a name that is not part of RevCol's published layout.
        """
        return layer_id(name, self.layers)


def layer_id(name: str, layers: Sequence[int]) -> int | None:
    """Layer id of a parameter of columns with ``layers`` blocks in their levels.

    See :meth:`Architecture.layer_id`; names without ``blocks`` and ``fusion`` are of no layer.
    """
    if name.startswith('stem.'):
        return 0
    match = _COLUMN_PARAMETER.match(name)
    if match is None:
        return None
    level, block = int(match['level'] or 0), int(match['block'] or 0)
    return 1 + int(match['column']) + sum(layers[:level]) + block


# Paper, table 7 (T to XL) and section 4 (H).
VARIANTS: dict[str, Architecture] = {
    'tiny': Architecture((64, 128, 256, 512), (2, 2, 4, 2), 4),
    'small': Architecture((64, 128, 256, 512), (2, 2, 4, 2), 8),
    'base': Architecture((72, 144, 288, 576), (1, 1, 3, 2), 16),
    'large': Architecture((128, 256, 512, 1024), (1, 2, 6, 2), 8),
    'xlarge': Architecture((224, 448, 896, 1792), (1, 2, 6, 2), 8),
    'huge': Architecture((360, 720, 1440, 2880), (1, 2, 6, 2), 8, long_up=True),
}


def resolve_architecture(arch: str | Mapping | Architecture) -> Architecture:
    """Turn the ``arch`` argument of :class:`~revcol_backbone.RevCol` into an architecture.

    Args:
        arch: A name in :data:`VARIANTS`, or a mapping with the fields of :class:`Architecture`;
            ``long_up`` may be left out and is then ``False``.

    Raises:
        ValueError: The name is unknown, or a field is missing, unknown or out of range.
    """
    if isinstance(arch, Architecture):
        return arch
    if isinstance(arch, str):
        if arch not in VARIANTS:
            raise ValueError(
                f'RevCol arch={arch!r} is unknown; use one of {", ".join(map(repr, VARIANTS))}, '
                'or a dict(channels=..., layers=..., columns=..., long_up=...).'
            )
        return VARIANTS[arch]
    if not isinstance(arch, Mapping):
        raise ValueError(
            f'RevCol arch must be a variant name or a dict, not {type(arch).__name__}; '
            f'the names are {", ".join(map(repr, VARIANTS))}.'
        )
    return _from_mapping(arch)


def _from_mapping(arch: Mapping) -> Architecture:
    required = {'channels', 'layers', 'columns'}
    missing, unknown = required - arch.keys(), arch.keys() - required - {'long_up'}
    if missing or unknown:
        raise ValueError(
            f'RevCol arch has the keys {sorted(arch)}, but a dict needs channels, layers, columns '
            'and may have long_up.'
        )
    for name in ('channels', 'layers'):
        values = arch[name]
        is_sequence = isinstance(values, Sequence) and not isinstance(values, str)
        if not (is_sequence and len(values) == LEVELS and all(map(_is_positive, values))):
            raise ValueError(
                f'RevCol arch[{name!r}]={values!r} is not allowed; give four positive integers, '
                'one for each level.'
            )
    if not _is_positive(arch['columns']):
        raise ValueError(
            f'RevCol arch["columns"]={arch["columns"]!r} is not allowed; give a positive integer.'
        )
    if not isinstance(arch.get('long_up', False), bool):
        raise ValueError(f'RevCol arch["long_up"]={arch["long_up"]!r} must be True or False.')
    return Architecture(
        channels=tuple(arch['channels']),
        layers=tuple(arch['layers']),
        columns=arch['columns'],
        long_up=arch.get('long_up', False),
    )


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0

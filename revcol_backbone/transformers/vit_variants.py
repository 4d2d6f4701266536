"""The published RevCol-ViT variants, and the check of an architecture given by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from revcol_backbone.argument_checks import check_integer
from revcol_backbone.variants import LEVELS, layer_id


@dataclass(frozen=True)
class ViTArchitecture:
    """The numbers that make one RevCol-ViT.

    Args:
        width: Width of all tokens, a multiple of 4 and of ``heads``.
        layers: Blocks in each of the four levels of one column.
        heads: Attention heads.
        columns: Number of columns.
    """

    width: int
    layers: tuple[int, int, int, int]
    heads: int
    columns: int

    def layer_id(self, name: str) -> int | None:
        """Layer id of a parameter, counted as :meth:`.Architecture.layer_id` does."""
        return layer_id(name, self.layers)


# Paper, appendix.
VIT_VARIANTS: dict[str, ViTArchitecture] = {
    'small': ViTArchitecture(224, (2, 2, 2, 2), 4, 4),
    'base': ViTArchitecture(384, (3, 3, 3, 3), 6, 4),
}


def resolve_vit_architecture(arch: str | Mapping | ViTArchitecture) -> ViTArchitecture:
    """Turn the ``arch`` argument of :class:`.RevColViT` into an architecture.

    Raises:
        ValueError: The name is unknown, or a field is missing, unknown or out of range.
    """
    names = [field.name for field in fields(ViTArchitecture)]
    if isinstance(arch, str) and arch in VIT_VARIANTS:
        return VIT_VARIANTS[arch]
    if isinstance(arch, Mapping) and arch.keys() == set(names):
        arch = ViTArchitecture(**{**arch, 'layers': tuple(arch['layers'])})
    if not isinstance(arch, ViTArchitecture):
        raise ValueError(
            f'RevColViT arch={arch!r} is not allowed; give one of '
            f'{", ".join(map(repr, VIT_VARIANTS))}, or a dict with {", ".join(names)}.'
        )
    for name in ('width', 'heads', 'columns'):
        check_integer('RevColViT', f'arch.{name}', getattr(arch, name), 1)
    if arch.width % 4 or arch.width % arch.heads:
        raise ValueError(
            f'RevColViT arch.width={arch.width} is not allowed; give a multiple of 4 and of the '
            f'{arch.heads} heads.'
        )
    if len(arch.layers) != LEVELS:
        raise ValueError(
            f'RevColViT arch.layers={arch.layers} is not allowed; give four positive integers, '
            'one for each level.'
        )
    for blocks in arch.layers:
        check_integer('RevColViT', 'arch.layers', blocks, 1)
    return arch

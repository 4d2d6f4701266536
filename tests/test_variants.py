"""The published variants, and architectures given by hand."""

from __future__ import annotations

import hashlib

import pytest
import torch

from revcol_backbone import VARIANTS, Architecture, RevCol
from revcol_backbone.variants import resolve_architecture
from tests.golden import TOY_ARCHITECTURES, published_variants


@pytest.mark.parametrize('name', VARIANTS)
def test_state_dict_layout_is_the_published_one(name: str) -> None:
    published = published_variants()[name]
    with torch.device('meta'):
        model = RevCol(name)
    layout = [f'{key} {list(value.shape)}' for key, value in model.state_dict().items()]
    assert len(layout) == published['keys']
    assert sum(parameter.numel() for parameter in model.parameters()) == published['parameters']
    assert hashlib.sha256('\n'.join(sorted(layout)).encode()).hexdigest() == published['sha256']


def test_a_dict_and_its_architecture_are_the_same() -> None:
    arch = TOY_ARCHITECTURES['toy_huge_k7']['arch']
    assert resolve_architecture(arch) == Architecture((8, 16, 32, 64), (1, 2, 1, 1), 4, True)
    assert resolve_architecture(Architecture(**arch)) == Architecture(**arch)


@pytest.mark.parametrize(
    ('arch', 'message'),
    [
        ('revcol_tiny', "arch='revcol_tiny' is unknown; use one of 'tiny', 'small'"),
        (3, 'must be a variant name or a dict, not int'),
        ({'channels': (8, 16, 32, 64), 'columns': 2}, 'needs channels, layers, columns'),
        ({'channels': (8, 16, 32), 'layers': (1, 1, 1, 1), 'columns': 2}, 'four positive integers'),
        ({'channels': (8, 16, 32, 64), 'layers': (1, 0, 1, 1), 'columns': 2}, 'four positive'),
        ({'channels': (8, 16, 32, 64), 'layers': (1, 1, 1, 1), 'columns': 0}, 'positive integer'),
        (
            {'channels': (8, 16, 32, 64), 'layers': (1, 1, 1, 1), 'columns': 2, 'depth': 3},
            r"keys \['channels', 'columns', 'depth', 'layers'\]",
        ),
    ],
)
def test_a_bad_architecture_is_named_with_what_is_allowed(arch: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RevCol(arch)

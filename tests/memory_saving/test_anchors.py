"""What is kept for the walk back: for any alphas, gradients nearly as exact as plain training's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from revcol_backbone import RevCol
from revcol_backbone.analysis.gradient_error import gradient_errors
from revcol_backbone.memory_saving.anchors import choose_kept
from revcol_backbone.shortcut import ALPHA_MIN
from tests.device import DEVICE
from tests.golden import fill, image

pytestmark = pytest.mark.on_device

ARCH = {'channels': (16, 24, 32, 48), 'layers': (1, 1, 2, 1), 'columns': 8}
SIZE = (1, 3, 48, 48)
LARGEST_RATIO = 10
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
# Clear of the bound, on which float32 and float64 decide differently whether a gradient is stopped.
SMALLEST = 1.1 * ALPHA_MIN

magnitudes = st.floats(np.log(SMALLEST), np.log(4.0)).map(np.exp)
# Every alpha of the network from one range, with a share of channels from another one.
alphas = st.fixed_dictionaries(
    {
        'usual': st.tuples(magnitudes, magnitudes).map(sorted),
        'other': st.tuples(magnitudes, magnitudes).map(sorted),
        'share': st.sampled_from([0.0, 0.01, 0.1, 0.5]),
        'negative': st.sampled_from([0.0, 0.5]),
        'seed': st.integers(0, 2**16),
    }
)


def set_alphas(model: RevCol, usual, other, share: float, negative: float, seed: int) -> None:
    usual, other = (torch.tensor(ends, dtype=torch.float64) for ends in (usual, other))
    generator = torch.Generator(DEVICE).manual_seed(seed)

    def uniform(like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=generator, dtype=torch.float64)

    for name, alpha in model.named_parameters():
        if '.alpha' not in name:
            continue
        low, high = (
            torch.where(uniform(alpha) < share, o, u) for u, o in zip(usual, other, strict=True)
        )
        size = (low.log() + uniform(alpha) * (high / low).log()).exp()
        alpha.data.copy_(torch.where(uniform(alpha) < negative, -size, size))


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True, phases=WITHOUT_SHRINKING)
@given(alphas)
def test_any_alphas_in_float32(drawn: dict) -> None:
    model = fill(RevCol(ARCH))
    set_alphas(model, **drawn)
    plain, saving = gradient_errors(model, image(SIZE), torch.float32)
    assert saving <= LARGEST_RATIO * plain
    assert saving < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ('dtype', 'autocast'),
    [(torch.bfloat16, False), (torch.float16, False), (torch.bfloat16, True)],
)
@settings(max_examples=5, deadline=None, derandomize=True, phases=WITHOUT_SHRINKING)
@given(alphas)
def test_any_alphas_in_half_precision(dtype: torch.dtype, autocast: bool, drawn: dict) -> None:
    model = fill(RevCol(ARCH))
    set_alphas(model, **drawn)
    plain, saving = gradient_errors(model, image(SIZE), dtype, autocast)
    assert saving <= LARGEST_RATIO * plain


@pytest.mark.parametrize('alpha', [2.0, 0.5, 0.4, 0.2, 0.1, 0.01])
@pytest.mark.parametrize('columns', [2, 3, 4])
def test_every_alpha_alike(columns: int, alpha: float) -> None:
    model = fill(RevCol({**ARCH, 'columns': columns}))
    set_alphas(model, (alpha, alpha), (alpha, alpha), share=0, negative=0, seed=0)
    plain, saving = gradient_errors(model, image(SIZE), torch.float32)
    assert saving <= LARGEST_RATIO * plain


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('columns', [2, 3])
def test_few_columns_with_usual_alphas_in_half_precision(columns: int, dtype: torch.dtype) -> None:
    model = fill(RevCol({**ARCH, 'columns': columns}))
    plain, saving = gradient_errors(model, image(SIZE), dtype)
    assert saving <= LARGEST_RATIO * plain


def plan(*columns: list[float], anchor_every: int = 4) -> dict:
    """What is kept where each level of a column has one alpha for all of its two channels."""
    values = [[np.full(2, alpha) for alpha in column] for column in columns]
    shapes = [[(1, 2, 1, 1) for _ in column] for column in columns]
    return choose_kept(values, shapes, anchor_every)


def test_usual_alphas_keep_every_fourth_column_and_one_level_besides() -> None:
    kept = plan(*[[0.6] * 4] * 8)
    assert all(level.is_whole for level in kept.values())
    assert list(kept) == [(2, 2), *((3, i) for i in range(4)), (6, 2), *((7, i) for i in range(4))]


def test_small_alphas_keep_every_column() -> None:
    assert len(plan(*[[0.002] * 4] * 5)) == 20


def test_without_anchors_the_last_column_alone_is_kept_whatever_the_alphas() -> None:
    assert list(plan(*[[0.002] * 4] * 3, anchor_every=0)) == [(2, i) for i in range(4)]


def test_of_a_level_those_channels_are_kept_that_cannot_be_undone() -> None:
    values = [[np.array([0.5, 1e-3, 0.5])] * 2] * 2
    kept = choose_kept(values, [[(1, 1, 3)] * 2] * 2, anchor_every=4)
    assert kept[0, 1].channels.tolist() == [1]
    assert kept[0, 1].dim == -1
    level = torch.arange(6.0).view(1, 2, 3)
    restored = kept[0, 1].restore(torch.zeros(1, 2, 3), kept[0, 1].take(level))
    assert restored.flatten().tolist() == [0, 1, 0, 0, 4, 0]


def test_alphas_that_are_not_numbers_are_kept() -> None:
    assert (0, 0) in plan([0.5] * 4, [float('nan')] * 4)

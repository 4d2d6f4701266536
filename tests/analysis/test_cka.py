"""Linear CKA with the unbiased HSIC: its invariances, its bias and its sum over minibatches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from revcol_backbone.analysis.cka import MinibatchCKA, centered_gram, hsic, split_evenly


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def cka(features: Tensor, reference: Tensor) -> float:
    measured = MinibatchCKA()
    measured.update({'feature': features}, {'reference': reference})
    return measured.compute()['feature', 'reference']


def hsic_of_song(x: Tensor, y: Tensor) -> float:
    """The estimator term by term, as Song et al. 2012 write it, with sums over all pairs."""
    n = len(x)
    k = [[0.0 if i == j else (x[i] @ x[j]).item() for j in range(n)] for i in range(n)]
    l = [[0.0 if i == j else (y[i] @ y[j]).item() for j in range(n)] for i in range(n)]  # noqa: E741
    pairs = [(i, j) for i in range(n) for j in range(n)]
    trace = sum(k[i][j] * l[j][i] for i, j in pairs)
    sums = sum(k[i][j] for i, j in pairs) * sum(l[i][j] for i, j in pairs)
    product = sum(sum(k[i]) * sum(row[i] for row in l) for i in range(n))
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * product / (n - 2)) / (n * (n - 3))


@pytest.mark.parametrize('n', [4, 5, 12])
def test_hsic_is_the_estimator_as_it_is_published(n):
    x, y = torch.randn(n, 6, dtype=torch.float64), torch.randn(n, 3, dtype=torch.float64)
    y += x[:, :3]
    for first, second in ((x, y), (x, x), (y, y)):
        ours = hsic(centered_gram(first), centered_gram(second))
        assert ours == pytest.approx(hsic_of_song(first, second), rel=1e-10)


def test_features_are_perfectly_like_themselves():
    x = torch.randn(8, 3, 5, 7)
    assert cka(x, x) == pytest.approx(1, abs=1e-12)


def test_a_rotation_a_scale_and_an_offset_change_nothing():
    x, y = torch.randn(10, 16, dtype=torch.float64), torch.randn(10, 4, dtype=torch.float64)
    y += x[:, :4]
    rotation, _ = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))
    expected = cka(x, y)
    assert 0.1 < expected < 0.9
    for changed in (x @ rotation, 300 * x, x + 1000 * torch.randn(16, dtype=torch.float64)):
        assert cka(changed, y) == pytest.approx(expected, abs=1e-9)


def test_another_linear_map_does_change_it():
    x, y = torch.randn(10, 16), torch.randn(10, 16)
    assert abs(cka(x * torch.linspace(0, 3, 16), y) - cka(x, y)) > 1e-3


@pytest.mark.parametrize('n', [4, 9])
def test_independent_features_have_zero_on_average_however_few_the_images(n):
    found = torch.tensor(
        [hsic(*(centered_gram(torch.randn(n, 5)) for _ in range(2))) for _ in range(4000)]
    )
    standard_error = found.std() / len(found) ** 0.5
    assert abs(found.mean()) < 4 * standard_error
    # The biased estimator, the product of doubly centered Gram matrices, has 5 (n - 1) / n^2 there.
    assert 4 * standard_error < 0.5 * 5 * (n - 1) / n**2


def test_minibatches_add_their_hsic_before_the_ratio_is_taken():
    x, y = torch.randn(11, 6, dtype=torch.float64), torch.randn(11, 3, dtype=torch.float64)
    y += x[:, :3]
    measured = MinibatchCKA()
    sums = torch.zeros(3, dtype=torch.float64)
    for part in (range(0, 5), range(5, 11)):
        batch_x, batch_y = x[list(part)], y[list(part)]
        measured.update({'x': batch_x}, {'y': batch_y})
        pairs = ((batch_x, batch_y), (batch_x, batch_x), (batch_y, batch_y))
        sums += torch.tensor([hsic_of_song(*pair) for pair in pairs], dtype=torch.float64)
    expected = sums[0] / (sums[1] * sums[2]).sqrt()
    assert measured.compute()['x', 'y'] == pytest.approx(expected.item(), rel=1e-10)
    assert (measured.images, measured.batches) == (11, 2)


def test_many_small_minibatches_come_close_to_one_large_one():
    x = torch.randn(1200, 8)
    y = x[:, :4] + 0.5 * torch.randn(1200, 4)
    measured = MinibatchCKA()
    for part in split_evenly(len(x), 8):
        measured.update({'x': x[list(part)]}, {'y': y[list(part)]})
    assert measured.compute()['x', 'y'] == pytest.approx(cka(x, y), abs=0.03)


def test_every_feature_is_compared_with_every_reference():
    x, y = torch.randn(6, 4), torch.randn(6, 4)
    measured = MinibatchCKA()
    measured.update({'a': x, 'b': y}, {'x': x, 'y': y})
    found = measured.compute()
    assert found['a', 'x'] == pytest.approx(1)
    assert found['b', 'y'] == pytest.approx(1)
    assert found['a', 'y'] == pytest.approx(found['b', 'x'])


def test_large_features_are_summed_in_parts(monkeypatch):
    x, y = torch.randn(6, 50), torch.randn(6, 7)
    expected = cka(x, y)
    monkeypatch.setattr('revcol_backbone.analysis.cka._COLUMNS_AT_A_TIME', 8)
    assert cka(x, y) == pytest.approx(expected, rel=1e-12)


def test_half_precision_features_are_compared_in_double_precision():
    x = (1000 + torch.randn(8, 64)).half()
    assert cka(x, x.double() - 1000) == pytest.approx(1, abs=1e-12)


def test_a_feature_that_is_the_same_for_all_images_has_no_similarity():
    assert math.isnan(cka(torch.full((6, 3), 0.1), torch.randn(6, 3)))


@pytest.mark.parametrize('n', [0, 1, 3])
def test_fewer_than_four_images_are_an_error(n):
    with pytest.raises(ValueError, match=rf'A minibatch has {n} images?; .* at least 4'):
        cka(torch.randn(n, 3), torch.randn(n, 3))


def test_other_images_are_an_error():
    with pytest.raises(ValueError, match=r'have \[5, 6\] images'):
        cka(torch.randn(5, 3), torch.randn(6, 3))


@pytest.mark.parametrize(
    ('images', 'batch_size', 'sizes'),
    [
        (16, 8, [8, 8]),
        (9, 8, [4, 5]),
        (7, 4, [7]),
        (5, 4, [5]),
        (17, 8, [5, 6, 6]),
        (11, 4, [5, 6]),
        (4, 64, [4]),
    ],
)
def test_images_are_divided_into_like_minibatches_of_at_least_four(images, batch_size, sizes):
    parts = split_evenly(images, batch_size)
    assert [len(part) for part in parts] == sizes
    assert [index for part in parts for index in part] == list(range(images))


@pytest.mark.parametrize(('images', 'batch_size'), [(3, 8), (8, 3)])
def test_too_few_images_or_too_small_minibatches_are_an_error(images, batch_size):
    with pytest.raises(ValueError, match='needs at least 4 of both'):
        split_evenly(images, batch_size)

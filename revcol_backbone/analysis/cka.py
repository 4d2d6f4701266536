"""Linear CKA between features of a network, summed up over minibatches (Nguyen et al. 2021).

How alike two sets of features are is read off which images each of them finds alike, so features
of any shape compare: a level's maps with the pixels, or with the scores of the classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SMALLEST_BATCH = 4
# Elements of a float64 copy at a time: features in full resolution are large.
_COLUMNS_AT_A_TIME = 2**20


class MinibatchCKA:
    """CKA of every one of some features with every one of some references.

    CKA = sum HSIC(K, L) / sqrt(sum HSIC(K, K) * sum HSIC(L, L)), summed over minibatches with the
    unbiased estimator of HSIC, whose expectation does not depend on the size of a minibatch (Nguyen
    et al. 2021, arXiv 2010.15327, equations 2 and 4). K and L are Gram matrices of features that
    are flattened to one row for each image: linear CKA. Everything is computed in float64.

    Example:
        >>> cka = MinibatchCKA()
        >>> for images in batches:
        ...     cka.update({'level 0': features}, {'input': images})
        >>> cka.compute()['level 0', 'input']
    """

    def __init__(self) -> None:
        self.images = 0
        self.batches = 0
        self._products: dict[tuple[str, str], float] = {}
        self._squares: dict[str, float] = {}
        self._reference_squares: dict[str, float] = {}

    def update(self, features: Mapping[str, Tensor], references: Mapping[str, Tensor]) -> None:
        """Add a minibatch.

        Args:
            features: Tensors of shape (n, ...), n at least 4, the same names in every minibatch.
            references: What to compare each of them with, of the same images.

        Raises:
            ValueError: There are fewer than 4 images, or the numbers of images differ.
        """
        rows = {name: centered_gram(tensor) for name, tensor in features.items()}
        columns = {name: centered_gram(tensor) for name, tensor in references.items()}
        sizes = {len(gram) for gram in (*rows.values(), *columns.values())}
        if len(sizes) != 1:
            raise ValueError(
                f'The features of a minibatch have {sorted(sizes)} images; give those of the same '
                'images.'
            )
        self.batches += 1
        self.images += sizes.pop()
        for name, gram in rows.items():
            _add(self._squares, name, hsic(gram, gram))
            for reference, other in columns.items():
                _add(self._products, (name, reference), hsic(gram, other))
        for reference, other in columns.items():
            _add(self._reference_squares, reference, hsic(other, other))

    def compute(self) -> dict[tuple[str, str], float]:
        """The CKA of each (feature, reference).

        It is at most 1, around 0 for independent ones (and so may be slightly negative), and NaN
        where one of them is the same for all images.
        """
        return {
            (name, reference): _ratio(
                product, self._squares[name], self._reference_squares[reference]
            )
            for (name, reference), product in self._products.items()
        }


def centered_gram(features: Tensor) -> Tensor:
    """The Gram matrix of the images, centered so that its products estimate HSIC without bias.

    Off the diagonal, from each entry go the means of its row and column, with n - 2 in place of n,
    and back comes that of all, with (n - 1)(n - 2); the diagonal is 0. HSIC of such matrices equals
    the estimator of Song et al. 2012, equation 5, and loses no digits to sums that cancel.

    Args:
        features: Shape (n, ...), n at least 4.

    Returns:
        Float64 of shape (n, n).

    Raises:
        ValueError: There are fewer than 4 images.
    """
    n = len(features)
    if n < SMALLEST_BATCH:
        raise ValueError(
            f'A minibatch has {n} image{"s" if n != 1 else ""}; the unbiased estimator needs at '
            f'least {SMALLEST_BATCH}.'
        )
    gram = torch.zeros(n, n, dtype=torch.float64, device=features.device)
    for part in features.detach().flatten(1).split(_COLUMNS_AT_A_TIME, dim=1):
        part = part.double()
        # The first image as the origin: a common offset, however large, cancels in the centring.
        part = part - part[:1]
        gram += part @ part.T
    gram.fill_diagonal_(0)
    sums = gram.sum(0)
    gram = gram - (sums + sums[:, None]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return gram.fill_diagonal_(0)


def hsic(first: Tensor, second: Tensor) -> float:
    """The unbiased estimate of HSIC from two matrices of :func:`centered_gram`."""
    n = len(first)
    return ((first * second).sum() / (n * (n - 3))).item()


def split_evenly(images: int, batch_size: int) -> list[range]:
    """Divide images into minibatches of nearly one size, of at least 4 images each.

    Args:
        images: Number of images, at least 4.
        batch_size: Largest minibatch wanted, at least 4. It is exceeded only where smaller ones
            would have fewer than 4 images: 5, 6 or 7 images stay together.

    Raises:
        ValueError: One of them is below 4.
    """
    if min(images, batch_size) < SMALLEST_BATCH:
        raise ValueError(
            f'There are {images} images and a batch size of {batch_size}; the unbiased estimator '
            f'needs at least {SMALLEST_BATCH} of both.'
        )
    batches = min(math.ceil(images / batch_size), images // SMALLEST_BATCH)
    edges = [images * index // batches for index in range(batches + 1)]
    return [range(start, end) for start, end in zip(edges[:-1], edges[1:], strict=True)]


def _add(sums: dict, key: Sequence[str] | str, value: float) -> None:
    sums[key] = sums.get(key, 0.0) + value


def _ratio(product: float, square: float, reference_square: float) -> float:
    if square <= 0 or reference_square <= 0:
        return math.nan
    return product / math.sqrt(square) / math.sqrt(reference_square)

"""Comparing the outputs of an exported file with PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

# Relative to the largest value of an output. In float32 only the order of sums differs.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}

Shape = tuple[int, int, int]


def shapes_to_check(batch: int, height: int, width: int, dynamic: bool) -> list[Shape]:
    """Return batch, height and width of the inputs to compare: the traced one and odd ones."""
    traced = (batch, height, width)
    return [traced, (batch + 1, 97, 131), (1, width + 1, height + 3)] if dynamic else [traced]


def check_agreement(
    run: Callable[[Tensor], Sequence[Tensor]],
    reference: nn.Module,
    shapes: Sequence[Shape],
    dtype: torch.dtype,
) -> Iterator[tuple[Shape, float]]:
    """Compare an exported graph with PyTorch in float32 on random images.

    Args:
        run: The exported graph, from a batch of ``dtype`` to all outputs.
        reference: The exported part of the model in PyTorch, in float32.
        shapes: Batch, height and width of each comparison.
        dtype: Data type of the export.

    Yields:
        The shape and the largest error of any output, relative to that output's largest value.

    Raises:
        ValueError: An error is above the tolerance of the dtype, or an output has another shape.
    """
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        image = torch.randn(shape[0], 3, *shape[1:], generator=generator)
        with torch.no_grad():
            expected = reference(image)
        found = run(image.to(dtype))
        error = _largest_error(found, [expected] if isinstance(expected, Tensor) else expected)
        yield shape, error
        if not error <= TOLERANCES[dtype]:
            raise ValueError(
                f'The exported graph differs from PyTorch by {error:.1e} of the largest value on '
                f'{_format(shape)}, where {TOLERANCES[dtype]:.0e} is allowed; nothing was written.'
            )


def _largest_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    if [tuple(tensor.shape) for tensor in found] != [tuple(tensor.shape) for tensor in expected]:
        return float('inf')
    errors = (
        (mine.float() - theirs).abs().max() / theirs.abs().max()
        for mine, theirs in zip(found, expected, strict=True)
    )
    return max(error.item() for error in errors)


def _format(shape: Shape) -> str:
    return f'{shape[0]} x 3 x {shape[1]} x {shape[2]}'

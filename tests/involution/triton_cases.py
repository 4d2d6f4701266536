"""Compares the Triton kernels with the shifted form; run as a module, on the CPU by interpretation.

Prints the largest relative error of each function over the cases, as JSON.
"""

from __future__ import annotations

import json

import torch

from revcol_backbone.involution import shifted
from tests.golden import relative_error

# batch, channels, height, width, kernel size, stride, dtype
CASES = (
    (2, 32, 5, 7, 3, 1, torch.float64),
    (1, 48, 6, 5, 5, 3, torch.float32),
    (1, 16, 7, 8, 7, 2, torch.float64),
    (1, 24, 4, 6, 3, 1, torch.float32),
    (1, 16, 6, 6, 3, 1, torch.float16),
    (0, 16, 6, 6, 3, 1, torch.float32),
)


def relative_errors(device: str, case: tuple) -> dict[str, float]:
    """Run one case with both implementations."""
    from revcol_backbone.involution import triton_kernels

    batch, channels, height, width, size, stride, dtype = case
    shape = (batch, max(channels // 16, 1), size**2, -(-height // stride), -(-width // stride))
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator).to(device, dtype)

    x, kernel, grad = (
        draw(batch, channels, height, width),
        draw(*shape),
        draw(batch, channels, *shape[-2:]),
    )
    calls = {
        'aggregate': (x, kernel, stride),
        'input_gradient': (grad, kernel, x.shape, stride),
        'kernel_gradient': (grad, x, kernel.shape, stride),
    }
    errors = {}
    for name, arguments in calls.items():
        found = getattr(triton_kernels, name)(*arguments).double()
        expected = getattr(shifted, name)(*arguments).double()
        assert found.shape == expected.shape
        errors[name] = relative_error(found, expected) if found.numel() else 0.0
    return errors


if __name__ == '__main__':
    print(json.dumps([relative_errors('cpu', case) for case in CASES]))

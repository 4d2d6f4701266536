"""Reference numbers: weights and images made from names alone, and the stored results.

The results were computed in float64 by the published implementation, on weights drawn by the
recipe below from each state-dict key, so that no framework's random generator matters.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).parent / 'data'
TOY_ARCHITECTURES = {
    'toy_k3': dict(
        arch=dict(channels=(8, 16, 32, 64), layers=(1, 1, 2, 1), columns=3), kernel_size=3
    ),
    'toy_huge_k7': dict(
        arch=dict(channels=(8, 16, 32, 64), layers=(1, 2, 1, 1), columns=4, long_up=True),
        kernel_size=7,
    ),
}


def golden_results(name: str) -> dict[str, Tensor]:
    with np.load(DATA / f'{name}.npz') as arrays:
        return {key: _tensor(arrays[key]) for key in arrays.files}


def published_variants() -> dict[str, dict]:
    return json.loads((DATA / 'variants.json').read_text())


def fill(module: nn.Module) -> nn.Module:
    """Overwrite every floating-point entry of the state dict by values drawn from its key."""
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(_values(key, tuple(tensor.shape))))
    return module


def image(shape: tuple[int, ...], name: str = 'image') -> Tensor:
    return _tensor(_normal(name, tuple(shape)))


def relative_error(found: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max().item()
    difference = (found.double() - expected.double().to(found.device)).abs().max().item()
    return difference / scale if scale else difference


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).to(torch.get_default_device())


def _values(key: str, shape: tuple[int, ...]) -> np.ndarray:
    normal, leaf = _normal(key, shape), key.rsplit('.', 1)[-1]
    if leaf.startswith('alpha'):
        return np.clip(0.5 + 0.1 * normal, 0.2, 1.0).astype(np.float32)
    if leaf == 'gamma':
        return (0.5 + 0.1 * normal).astype(np.float32)
    if leaf == 'running_var':
        return (1 + 0.1 * np.abs(normal)).astype(np.float32)
    if leaf in ('bias', 'running_mean'):
        return (0.1 * normal).astype(np.float32)
    if leaf == 'weight' and len(shape) == 1:
        return (1 + 0.1 * normal).astype(np.float32)
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
    return (normal / np.sqrt(max(fan_in, 1))).astype(np.float32)


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return generator.standard_normal(shape).astype(np.float32)

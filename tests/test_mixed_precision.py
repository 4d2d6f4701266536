"""Mixed-precision training in both memory modes, and a step of the largest variant."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from revcol_backbone import VARIANTS, RevCol
from tests.device import DEVICE
from tests.golden import fill, image

pytestmark = pytest.mark.on_device

ARCH = {'channels': (8, 16, 24, 32), 'layers': (1, 1, 2, 1), 'columns': 4}
# The largest difference of the memory modes' gradients in units of the precision's rounding.
ROUNDINGS = 10


def loss(outputs: tuple[Tensor, ...]) -> Tensor:
    return sum(output.float().pow(2).mean() for output in outputs)


def scaled_step(model: RevCol, scaler: torch.amp.GradScaler, dtype: torch.dtype) -> Tensor:
    """The gradient of one step, through autocast and a scaled loss, as one vector."""
    with torch.autocast(DEVICE.type, dtype):
        total = loss(model(image((2, 3, 64, 64))))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler.scale(total).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['fp16', 'bf16'])
def test_both_memory_modes_have_the_same_gradients_under_a_scaler(dtype: torch.dtype) -> None:
    found = []
    for save_memory in (False, True):
        scaler = torch.amp.GradScaler(DEVICE.type, init_scale=128.0)
        found.append(scaled_step(fill(RevCol(ARCH, save_memory=save_memory)), scaler, dtype))
        assert scaler.get_scale() == 128.0
    plain, saving = found
    assert plain.isfinite().all()
    assert (saving - plain).norm() < ROUNDINGS * torch.finfo(dtype).eps * plain.norm()


@pytest.mark.parametrize('save_memory', [False, True])
def test_a_scale_that_overflows_is_lowered_and_the_step_left_out(save_memory: bool) -> None:
    model = fill(RevCol(ARCH, save_memory=save_memory))
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**40)
    assert not scaled_step(model, scaler, torch.float16).isfinite().all()
    assert scaler.get_scale() == 2.0**39


def test_a_step_of_the_largest_variant_at_640_pixels() -> None:
    """On a CPU a sixty-fourth of its width at a fifth of the size."""
    arch, side = VARIANTS['huge'], 640
    if DEVICE.type == 'cpu':
        arch, side = replace(arch, channels=tuple(c // 64 for c in arch.channels)), 128
    model = RevCol(arch, save_memory=True)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        total = loss(model(torch.rand(1, 3, side, side)))
    total.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())

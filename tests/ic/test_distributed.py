"""Two gloo processes train a unit to the gradients of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from revcol_backbone.ic import ICConv2d, ICLinear
from tests.ic.textbook import randomize

PROCESSES = 2


def build() -> nn.Module:
    torch.manual_seed(0)
    settings = dict(dtype=torch.double, collision_start='mean')
    model = nn.Sequential(
        ICConv2d(3, 8, 3, padding=1, **settings),
        nn.ReLU(),
        ICConv2d(8, 8, 3, stride=2, groups=2, collision_gain=True, **settings),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        ICLinear(8, 4, **settings),
    )
    return randomize(model)


def images() -> Tensor:
    return torch.randn(4, 3, 9, 9, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def work(rank: int, folder: str) -> None:
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=PROCESSES
    )
    try:
        model = build()
        parallel = DistributedDataParallel(model)
        parallel(images().chunk(PROCESSES)[rank]).square().mean().backward()
        torch.save({k: p.grad for k, p in model.named_parameters()}, f'{folder}/{rank}.pth')
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_data_parallel_training_has_the_gradients_of_one_process(tmp_path: Path):
    mp.spawn(work, (str(tmp_path),), PROCESSES)
    model = build()
    model(images()).square().mean().backward()
    for rank in range(PROCESSES):
        found = torch.load(tmp_path / f'{rank}.pth', weights_only=True)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-10, atol=1e-12)

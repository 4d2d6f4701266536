"""Two processes train the memory-saving backbone to the gradients of one process.

They talk by NCCL where the tests have two GPUs, and by gloo otherwise.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from revcol_backbone import RevCol
from tests.device import process_backend, process_device
from tests.golden import fill, image

ARCH = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 3}
PROCESSES = 2
BATCH = 4
OPTIONS = {
    'as it is': {},
    'bucket views': {'gradient_as_bucket_view': True},
    'small buckets': {'bucket_cap_mb': 0.001},
    'unused parameters': {'find_unused_parameters': True},
    'static graph': {'static_graph': True},
    'own buffers': {'broadcast_buffers': False},
}
# name: (frozen columns, parts that a process accumulates)
STEPS = {'whole': (-1, 1), 'accumulated': (-1, 2), 'frozen': (1, 1)}
DATA_PARALLEL = [
    (option, step, save_memory)
    for option in OPTIONS
    for step in STEPS
    for save_memory in (True, False)
    # PyTorch's static graph starts with a step that is synchronized.
    if (option, step) != ('static graph', 'accumulated')
]
SHARDED = ('fsdp', 'fsdp_original_parameters', 'fully_shard')

pytestmark = pytest.mark.slow


def build(frozen_columns: int = -1, save_memory: bool = True) -> RevCol:
    arguments = {
        'save_memory': save_memory,
        'anchor_every': 2,
        'frozen_columns': frozen_columns,
    }
    return fill(RevCol(ARCH, **arguments)).double()


def own_images(device: torch.device) -> Tensor:
    """What one process sees of the batch."""
    return images().chunk(PROCESSES)[dist.get_rank()].to(device)


def loss(outputs: tuple[Tensor, ...]) -> Tensor:
    return sum(output.pow(2).mean() for output in outputs)


def images() -> Tensor:
    return image((BATCH, 3, 48, 40)).double()


def train_data_parallel(
    device: torch.device, option: str, step: str, save_memory: bool
) -> dict[str, Tensor]:
    frozen_columns, parts = STEPS[step]
    model = build(frozen_columns, save_memory).to(device)
    parallel = DistributedDataParallel(model, **OPTIONS[option])
    pieces = own_images(device).chunk(parts)
    for number, piece in enumerate(pieces):
        is_last = number == len(pieces) - 1
        with contextlib.nullcontext() if is_last else parallel.no_sync():
            (loss(parallel(piece)) / parts).backward()
    return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}


def train_lower_levels(device: torch.device, save_memory: bool) -> bool:
    """Two steps without the top level, which data-parallel training must not wait for."""
    model = RevCol(ARCH, out_indices=(0, 1), save_memory=save_memory).to(device)
    parallel = DistributedDataParallel(model)
    for _ in range(2):
        loss(parallel(own_images(device).float())).backward()
    return True


def train_sharded(device: torch.device, kind: str) -> dict[str, Tensor]:
    """One step of plain descent; returns the whole parameters after it."""
    model = build().to(device)
    if kind == 'fully_shard':
        sharded = fully_shard(model, mesh=init_device_mesh(device.type, (PROCESSES,)))
    else:
        sharded = FullyShardedDataParallel(
            model,
            device_id=device,
            use_orig_params=kind == 'fsdp_original_parameters',
        )
    optimizer = torch.optim.SGD(sharded.parameters(), lr=0.1)
    loss(sharded(own_images(device))).backward()
    optimizer.step()
    if kind == 'fully_shard':
        return {key: value.full_tensor() for key, value in sharded.state_dict().items()}
    with FullyShardedDataParallel.summon_full_params(sharded):
        return {key: value.clone() for key, value in model.state_dict().items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    device = process_device(rank)
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    dist.init_process_group(
        process_backend(rank),
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=PROCESSES,
    )
    results = {how: train_data_parallel(device, *how) for how in DATA_PARALLEL}
    results['lower levels'] = [train_lower_levels(device, saves) for saves in (False, True)]
    results.update({kind: train_sharded(device, kind) for kind in SHARDED})
    torch.save(results, f'{folder}/{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder: Path = tmp_path_factory.mktemp('processes')
    mp.spawn(work, args=(str(folder),), nprocs=PROCESSES)
    files = [folder / f'{rank}.pth' for rank in range(PROCESSES)]
    return [torch.load(file, map_location='cpu') for file in files]


def one_process(frozen_columns: int = -1) -> nn.Module:
    model = build(frozen_columns, save_memory=False)
    loss(model(images())).backward()
    return model


@pytest.mark.parametrize(('option', 'step', 'save_memory'), DATA_PARALLEL)
def test_data_parallel_gradients_are_those_of_the_whole_batch(
    results: list, option: str, step: str, save_memory: bool
) -> None:
    model = one_process(STEPS[step][0])
    expected = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    for rank in range(PROCESSES):
        found = results[rank][option, step, save_memory]
        assert found.keys() == expected.keys()
        for key, gradient in expected.items():
            torch.testing.assert_close(found[key], gradient, rtol=1e-8, atol=1e-10)


def test_levels_that_are_not_needed_do_not_stop_data_parallel_training(results: list) -> None:
    assert [result['lower levels'] for result in results] == [[True, True]] * PROCESSES


@pytest.mark.parametrize('kind', SHARDED)
def test_a_sharded_step_is_the_step_of_one_process(results: list, kind: str) -> None:
    model = one_process()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    found = {key.removeprefix('_fsdp_wrapped_module.'): v for key, v in results[0][kind].items()}
    assert found.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-10)

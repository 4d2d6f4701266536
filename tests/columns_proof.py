"""What holds for columns of every kind: plain training's gradients, from memory that stays flat.

class TestMyColumns(ColumnsProof):
    @staticmethod
    def build(columns, **arguments):
        return MyColumns(columns=columns, **arguments)

    @staticmethod
    def inputs():
        return torch.randn(2, 3, 32, 32), mask
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.reversible_columns import ReversibleColumns
from revcol_backbone.shortcut import invert_shortcut
from tests.golden import fill, image

MEBIBYTE = 2**20
PROCESSES = 2


class ColumnsProof:
    """Tests of a network of columns; subclass it under a name that starts with ``Test``."""

    @staticmethod
    def build(columns: int, **arguments: object) -> ReversibleColumns:
        """The network, tiny; ``arguments`` may have ``save_memory``, ``anchor_every``,
        ``frozen_columns`` and ``drop_path_rate``."""
        raise NotImplementedError

    @staticmethod
    def inputs() -> tuple[Tensor, ...]:
        """What the network is called with, two samples or more in float32; masks come last."""
        raise NotImplementedError

    @staticmethod
    def blocks(network: nn.Module) -> list[nn.Module]:
        """Modules of the network to compile."""
        return [level for column in columns_of(network) for level in column.levels]

    @classmethod
    def build_for_memory(cls, columns: int, **arguments: object) -> ReversibleColumns:
        """The network whose memory is measured: of a size at which maps outweigh weights."""
        return cls.build(columns, **arguments)

    @classmethod
    def inputs_for_memory(cls) -> tuple[Tensor, ...]:
        """What that network is called with."""
        return cls.inputs()

    @pytest.mark.parametrize(
        ('anchor_every', 'tolerance'), [(1, 1e-9), (2, 1e-9), (4, 1e-9), (0, 1e-6)]
    )
    def test_gradients_in_float64_equal_plain_autograd(
        self, anchor_every: int, tolerance: float
    ) -> None:
        network, inputs = self._double(9, anchor_every=anchor_every)
        assert error(gradients(network, inputs), plain_gradients(network, inputs)) < tolerance

    def test_outputs_are_bitwise_those_of_the_plain_forward_pass(self) -> None:
        network, inputs = fill(self.build(4)), self.inputs()
        saving = network(*inputs)
        network.save_memory = False
        torch.testing.assert_close(saving, network(*inputs), rtol=0, atol=0)

    def test_the_inverse_gives_back_the_column_before(self) -> None:
        network, (x, *constants) = self._double(3)
        with torch.no_grad():
            stem = network.eval().stem(x)
            before, after = network.run_columns(stem, outputs=(1, 2), constants=constants)
            found = invert_column(network.subnet2, stem, after, constants)
        for level, expected in zip(found, before, strict=True):
            assert error(level, expected) < 1e-12

    def test_drop_path_with_a_seed_drops_what_plain_training_drops(self) -> None:
        network, inputs = self._double(4, drop_path_rate=0.6)
        found = gradients(network, inputs)
        assert error(found, plain_gradients(network, inputs)) < 1e-9
        assert error(found, gradients(network.eval(), inputs)) > 1e-2

    def test_autocast_is_as_exact_as_plain_training_with_it(self) -> None:
        network, inputs = self._double(4)
        exact = plain_gradients(network, inputs)
        network, inputs = network.float(), single(inputs)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            plain = plain_gradients(network, inputs)
            saving = gradients(network, inputs)
        assert error(saving, exact) < 2 * error(plain, exact) < 0.2

    def test_the_way_back_computes_each_level_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network, inputs = fill(self.build(5)), self.inputs()
        gradients(network, inputs)  # the first run of a level checks it, beside
        calls = count_calls_of_levels(network, monkeypatch)
        total = loss(network(*inputs))
        levels = sum(len(column.levels) for column in columns_of(network))
        assert len(calls) == levels
        total.backward()
        assert len(calls) == 2 * levels

    def test_live_memory_does_not_grow_with_the_columns(self) -> None:
        def growth(**arguments: object) -> float:
            few, many = (self._peak(columns, **arguments) for columns in (3, 6))
            return (many - few) / 3

        saving = growth(save_memory=True, anchor_every=0)
        assert saving < MEBIBYTE
        assert saving < 0.05 * growth(save_memory=False)

    def test_frozen_columns_leave_the_other_gradients_as_they_are(self) -> None:
        network, inputs = self._double(4, frozen_columns=2)
        assert error(gradients(network, inputs), plain_gradients(network, inputs)) < 1e-9
        names = {name.split('.')[0] for name, p in network.named_parameters() if p.requires_grad}
        assert not names & {'stem', 'subnet0', 'subnet1'}
        assert {'subnet2', 'subnet3'} <= names

    def test_compiled_blocks_give_the_same_gradients(self) -> None:
        network, inputs = self._double(3)
        expected = plain_gradients(network, inputs)
        blocks = self.blocks(network)
        assert blocks
        for block in blocks:
            block.compile(backend='aot_eager')
        assert error(gradients(network, inputs), expected) < 1e-9

    def test_deployed_it_computes_the_same(self) -> None:
        network, inputs = self._double(3)
        expected = network.eval()(*inputs)
        network.switch_to_deploy()
        torch.testing.assert_close(network(*inputs), expected)

    def test_copies_and_pickles_train_alike(self) -> None:
        network, inputs = fill(self.build(3)), self.inputs()
        expected = gradients(network, inputs)
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            torch.testing.assert_close(gradients(other, inputs), expected, rtol=0, atol=0)

    @pytest.mark.slow
    def test_two_processes_find_the_gradients_of_the_whole_batch(self, tmp_path: Path) -> None:
        mp.spawn(_train_in_process, args=(type(self), str(tmp_path)), nprocs=PROCESSES)
        expected = gradients(*self._double(3))
        for rank in range(PROCESSES):
            assert error(torch.load(tmp_path / f'{rank}.pth'), expected) < 1e-9

    def _double(self, columns: int, **arguments: object) -> tuple[nn.Module, tuple[Tensor, ...]]:
        network = fill(self.build(columns, **arguments)).double().train()
        return network, tuple(x.double() if x.is_floating_point() else x for x in self.inputs())

    def _peak(self, columns: int, **arguments: object) -> int:
        """Peak of one training step in bytes, as the paper counts it: gradients apart."""
        network, inputs = (
            fill(self.build_for_memory(columns, **arguments)),
            self.inputs_for_memory(),
        )
        with LiveBytes() as live:
            loss(network(*inputs)).backward()
        return live.peak - sum(p.grad.nbytes for p in network.parameters() if p.grad is not None)


def loss(outputs: tuple[Tensor, ...]) -> Tensor:
    """A mean over samples, to which every value counts differently."""
    return sum(
        (output * image(tuple(output.shape[1:]), f'probe{index}').to(output)).sum() / len(output)
        for index, output in enumerate(outputs)
    )


def gradients(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """The gradients of all parameters after one step with a seed, as one vector."""
    network.zero_grad()
    torch.manual_seed(0)
    loss(network(*inputs)).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def plain_gradients(network: ReversibleColumns, inputs: tuple[Tensor, ...]) -> Tensor:
    """The same by plain autograd."""
    network.save_memory = False
    found = gradients(network, inputs)
    network.save_memory = True
    return found


def error(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def single(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.float() if x.is_floating_point() else x for x in inputs)


def columns_of(network: ReversibleColumns) -> list[nn.Module]:
    return [getattr(network, f'subnet{index}') for index in range(network.columns)]


def invert_column(
    column: nn.Module, stem: Tensor, levels: tuple[Tensor, ...], constants: list
) -> list[Tensor]:
    """The levels of the column before, top level first, from those of this one."""
    found: list[Tensor] = []
    for index in reversed(range(len(levels))):
        below = levels[index - 1] if index else stem
        fused = column.levels[index](below, tuple(found), None, *constants)
        found.insert(0, invert_shortcut(levels[index], fused, column.alphas[index]))
    return found


def count_calls_of_levels(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with every call of a level, by the network or again."""
    calls: list[str] = []

    def counted(forward: Callable) -> Callable:
        def call(level: nn.Module, *arguments: object) -> Tensor:
            calls.append(type(level).__name__)
            return forward(level, *arguments)

        return call

    for kind in {type(level) for column in columns_of(network) for level in column.levels}:
        monkeypatch.setattr(kind, 'forward', counted(kind.forward))
    return calls


def _train_in_process(rank: int, proof: type[ColumnsProof], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=PROCESSES
    )
    network, inputs = proof()._double(3)
    part = tuple(x.chunk(PROCESSES)[rank] for x in inputs)
    torch.save(gradients(DistributedDataParallel(network), part), f'{folder}/{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()

"""Watching the columns of a running network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from revcol_backbone import RevCol, RevColViT, ReversibleColumns
from revcol_backbone.analysis.columns import find_revcols, watch_columns
from tests.golden import fill

ARCH = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 1, 1), 'columns': 3}


def seen_by(network: ReversibleColumns, image: Tensor) -> tuple[dict, tuple[Tensor, ...]]:
    """What is seen of each column in one forward pass, and the network's result."""
    outputs = {}

    def see(index, column, levels):
        assert index not in outputs
        outputs[index] = levels

    with watch_columns(network, see):
        result = network(image)
    network(image)
    return outputs, result


@pytest.mark.parametrize('save_memory', [False, True])
def test_every_column_is_seen_once_in_order(save_memory):
    network = fill(RevCol(ARCH, save_memory=save_memory, anchor_every=0))
    outputs, result = seen_by(network, torch.randn(2, 3, 32, 48))
    assert list(outputs) == [0, 1, 2]
    for seen, returned in zip(outputs[2], result, strict=True):
        assert torch.equal(seen, returned)
    assert [level.shape[1] for level in outputs[0]] == [4, 8, 12, 16]


def test_columns_of_other_networks_are_seen():
    network = RevColViT({'width': 8, 'layers': (1, 1, 1, 1), 'heads': 2, 'columns': 3})
    assert list(find_revcols(nn.Sequential(network))) == ['0']
    outputs, _ = seen_by(network, torch.randn(2, 3, 32, 48))
    assert [tuple(level.shape) for level in outputs[2]] == [(2, 6, 8)] * 4


def test_the_backward_pass_that_recomputes_columns_is_not_seen():
    network = fill(RevCol(ARCH, save_memory=True, anchor_every=0))
    count = []
    with watch_columns(network, lambda *_: count.append(1)):
        sum(level.sum() for level in network(torch.randn(2, 3, 32, 48))).backward()
    assert len(count) == 3


def test_a_deployed_network_is_seen_too():
    torch.manual_seed(0)
    network, image = fill(RevCol(ARCH)).eval(), torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        before, _ = seen_by(network, image)
        network.switch_to_deploy()
        after, _ = seen_by(network, image)
    for column, levels in before.items():
        for one, other in zip(levels, after[column], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_networks_are_found_by_name_in_any_model():
    backbone = RevCol(ARCH)
    model = nn.ModuleDict({'teacher': nn.Sequential(backbone), 'head': nn.Linear(2, 2)})
    assert find_revcols(model) == {'teacher.0': backbone}
    assert find_revcols(backbone) == {'': backbone}
    assert find_revcols(model.head) == {}

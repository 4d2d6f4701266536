"""Columns of any levels: numbers, shapes and kinds of them; and what is refused in a sentence."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from revcol_backbone import Column, ReversibleColumns
from tests.columns_proof import ColumnsProof, error
from tests.golden import fill, image

CHANNELS, COLUMNS = 6, 5


class TokenLevel(nn.Module):
    """A level of token sequences; sequences may be padded."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = nn.Linear(CHANNELS, CHANNELS)
        self.norm = nn.LayerNorm(CHANNELS)
        self.is_folded = False

    def forward(self, below: Tensor, above: tuple, keep: list | None, padded: Tensor) -> Tensor:
        total = self.fuse(below) + sum(above)
        branch = self.norm(total).tanh().masked_fill(padded[..., None], 0)
        if keep is not None and keep[0] is not None:
            branch = branch * keep[0].view(-1, 1, 1)
        return total + branch.mean(1, keepdim=True)

    def switch_to_deploy(self) -> None:
        self.is_folded = True


class MapLevel(nn.Module):
    """A level of feature maps, half as large as the one below."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, stride=2)

    def forward(self, below: Tensor, above: tuple, keep: list | None) -> Tensor:
        fused = self.down(below)
        fused = sum((nn.functional.interpolate(x, fused.shape[-2:]) for x in above), fused).tanh()
        if keep is None or keep[0] is None:
            return fused
        return fused * keep[0].view(-1, 1, 1, 1)


def token_network(
    levels: int = 2, columns: int = COLUMNS, rate: float = 0.3, **arguments
) -> ReversibleColumns:
    made = [
        Column(
            [TokenLevel() for _ in range(levels)],
            alpha_shapes=[(CHANNELS,), (1, 1, CHANNELS), (1,)][:levels],
            drop_path_rates=[[rate]] * levels,
        )
        for _ in range(columns)
    ]
    return fill(ReversibleColumns(made, nn.Linear(3, CHANNELS), **arguments)).double()


def map_network(
    levels: int = 2,
    shape: tuple = (1, CHANNELS, 1, 1),
    columns: int = 3,
    rate: float = 0.0,
    **arguments,
) -> ReversibleColumns:
    made = [
        Column([MapLevel() for _ in range(levels)], [shape] * levels, [[rate]] * levels)
        for _ in range(columns)
    ]
    return fill(ReversibleColumns(made, nn.Conv2d(3, CHANNELS, 1), **arguments)).double()


class TestTokens(ColumnsProof):
    """Columns of two levels of padded token sequences."""

    @staticmethod
    def build(columns: int, drop_path_rate: float = 0.0, **arguments) -> ReversibleColumns:
        return token_network(columns=columns, rate=drop_path_rate, **arguments).float()

    @staticmethod
    def inputs() -> tuple[Tensor, Tensor]:
        x, padded = tokens()
        return x.float(), padded


class TestMaps(ColumnsProof):
    """Columns of three levels of feature maps."""

    test_two_processes_find_the_gradients_of_the_whole_batch = None  # as of tokens

    @staticmethod
    def build(columns: int, drop_path_rate: float = 0.0, **arguments) -> ReversibleColumns:
        return map_network(3, columns=columns, rate=drop_path_rate, **arguments).float()

    @staticmethod
    def inputs() -> tuple[Tensor]:
        return (image((2, 3, 33, 40)),)


def tokens() -> tuple[Tensor, Tensor]:
    """Two sequences, the second one padded."""
    padded = torch.zeros(2, 7, dtype=torch.bool)
    padded[1, 4:] = True
    return image((2, 7, 3)).double(), padded


def gradients(network: nn.Module, *inputs: Tensor) -> Tensor:
    network.zero_grad()
    torch.manual_seed(0)
    sum(level.square().sum() for level in network(*inputs)).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize('levels', [2, 3])
@pytest.mark.parametrize(('anchor_every', 'tolerance'), [(1, 1e-9), (4, 1e-9), (0, 1e-6)])
def test_tokens_with_padding_train_as_plainly(
    levels: int, anchor_every: int, tolerance: float
) -> None:
    network = token_network(levels, anchor_every=anchor_every).train()
    found = gradients(network, *tokens())
    network.save_memory = False
    assert error(found, gradients(network, *tokens())) < tolerance


@pytest.mark.parametrize('levels', [2, 5])
def test_feature_maps_train_as_plainly(levels: int) -> None:
    x = image((2, 3, 33, 40)).double()
    network = map_network(levels)
    found = gradients(network, x)
    network.save_memory = False
    assert error(found, gradients(network, x)) < 1e-9


def test_alphas_of_tokens_near_zero_keep_those_channels_alone() -> None:
    """In float32 a channel could not be undone through an alpha of 0.002."""
    network = token_network(columns=3).float()
    with torch.no_grad():
        for index in range(1, 3):
            for alpha in getattr(network, f'subnet{index}').alphas:
                alpha.view(-1)[::2] = 2e-3
    x, padded = tokens()
    expected = copy.deepcopy(network).double()
    expected.save_memory = False
    expected = gradients(expected, x, padded)
    assert error(gradients(network, x.float(), padded), expected) < 1e-5


def test_the_state_dict_is_laid_out_as_revcols() -> None:
    keys = list(token_network(columns=2).state_dict())
    assert keys[:2] == ['stem.weight', 'stem.bias']
    assert keys[2:5] == ['subnet0.alpha0', 'subnet0.alpha1', 'subnet0.level0.fuse.weight']
    assert keys[-1] == 'subnet1.level1.norm.bias'


def test_columns_of_choice_are_returned() -> None:
    network = token_network().eval()
    x, padded = tokens()
    stem = network.stem(x)
    first, last = network.run_columns(stem, outputs=(0, COLUMNS - 1), constants=(padded,))
    torch.testing.assert_close(last, network(x, padded))
    torch.testing.assert_close(first, network.subnet0(stem, constants=(padded,)))


def test_frozen_columns_get_no_gradients_and_stay_in_evaluation() -> None:
    network = token_network(frozen_columns=2).train()
    gradients(network, *tokens())
    trained = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name.split('.')[0] for name in trained} == {'subnet2', 'subnet3', 'subnet4'}
    assert [network.stem.training, network.subnet1.training, network.subnet2.training] == [
        False,
        False,
        True,
    ]


def test_deployed_levels_fold_themselves_and_the_result_stays() -> None:
    network = token_network().eval()
    expected = network(*tokens())
    network.switch_to_deploy()
    network.switch_to_deploy()
    torch.testing.assert_close(network(*tokens()), expected)
    assert all(m.is_folded for m in network.modules() if isinstance(m, TokenLevel))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert 'subnet0.alpha0' not in network.state_dict()
    with pytest.raises(RuntimeError, match='was switched to deploy and cannot be trained'):
        network.train()


def column(levels: int) -> Column:
    return Column([TokenLevel() for _ in range(levels)], [(CHANNELS,)] * levels)


@pytest.mark.parametrize(
    ('columns', 'message'),
    [
        ([], 'columns is empty; give at least one Column'),
        ([column(2), nn.Identity()], r'columns\[1\] is a Identity; give a revcol_backbone.Column'),
        ([column(1)], r'columns\[0\] has 1 level; give at least two'),
        ([column(2), column(3)], r'columns\[1\] has 3 levels and columns\[0\] has 2; give all'),
        ([column(2)] * 2, r'columns\[1\] is the same module as an earlier one'),
    ],
)
def test_columns_that_do_not_go_together_are_refused(columns: list, message: str) -> None:
    with pytest.raises(ValueError, match=f'ReversibleColumns {message}'):
        ReversibleColumns(columns, nn.Identity())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'save_memory': 'off'}, "save_memory='off' is not allowed; give True or False"),
        ({'anchor_every': -1}, 'anchor_every=-1 is not allowed; give an integer at least 0'),
        ({'frozen_columns': 3}, 'frozen_columns=3 is not allowed; give an integer from -1 to 2'),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f'ReversibleColumns {message}'):
        token_network(columns=2, **arguments)


@pytest.mark.parametrize('save_memory', [True, False])
@pytest.mark.parametrize('shape', [(CHANNELS + 1,), (1, CHANNELS), (1, 1, 1, CHANNELS, 1)])
def test_an_alpha_that_does_not_fit_is_refused(save_memory: bool, shape: tuple) -> None:
    network = map_network(shape=shape, save_memory=save_memory)
    with pytest.raises(ValueError, match='does not fit its level of shape .*; give alpha_shapes'):
        network(image((1, 3, 16, 16)).double())


def test_a_level_of_another_shape_than_before_is_refused() -> None:
    network = map_network()
    network.subnet1.level1.down.stride = (1, 1)
    with pytest.raises(ValueError, match=r'a level gave a tensor of shape \(1, 6, 8, 8\), but'):
        network(image((1, 3, 16, 16)).double())

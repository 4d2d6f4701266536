"""Whatever the network, saving memory changes no output and no gradient."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from revcol_backbone import RevCol
from tests.golden import fill, image
from tests.properties.cases import cases

TOLERANCE = 1e-9  # of float64, at alphas between 0.2 and 1
FOUR = {'min_size': 4, 'max_size': 4}

networks = st.fixed_dictionaries(
    {
        'arch': st.fixed_dictionaries(
            {
                'channels': st.lists(st.integers(2, 9), **FOUR).map(tuple),
                'layers': st.lists(st.integers(1, 2), **FOUR).map(tuple),
                'columns': st.integers(1, 6),
                'long_up': st.booleans(),
            }
        ),
        'kernel_size': st.sampled_from([1, 3, 5]),
        'drop_path_rate': st.sampled_from([0.0, 0.0, 0.4]),
        'out_indices': st.sets(st.integers(0, 3), min_size=1).map(sorted).map(tuple),
        'frozen_columns': st.integers(-1, 1),
        'in_channels': st.integers(1, 4),
    }
)
inputs = st.tuples(st.integers(1, 2), st.integers(32, 70), st.integers(32, 70))
frozen_parts = st.sets(st.sampled_from(['alpha', 'gamma', 'dwconv', 'norm', 'stem', 'bias']))


def step(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)
    outputs = model(x)
    sum((o * image(o.shape, f'probe{i}').double()).sum() for i, o in enumerate(outputs)).backward()
    found = {f'output {index}': output.detach() for index, output in enumerate(outputs)}
    found |= {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found if x.grad is None else found | {'image': x.grad}


@cases(50)
@given(
    network=networks,
    shape=inputs,
    anchor_every=st.integers(0, 5),
    frozen=frozen_parts,
    with_image=st.booleans(),
)
def test_outputs_and_gradients_are_those_of_plain_training(
    network: dict, shape: tuple, anchor_every: int, frozen: set[str], with_image: bool
) -> None:
    frozen_columns = min(network['frozen_columns'], network['arch']['columns'] - 1)
    network = network | {'frozen_columns': frozen_columns}
    results = []
    for save_memory in (False, True):
        model = RevCol(save_memory=save_memory, anchor_every=anchor_every, **network)
        fill(model).double().train()
        for name, parameter in model.named_parameters():
            if any(part in name for part in frozen):
                parameter.requires_grad_(False)
        batch, height, width = shape
        x = image((batch, network['in_channels'], height, width)).double()
        results.append(step(model, x.requires_grad_(with_image)))
    plain, saving = results
    assert saving.keys() == plain.keys()
    size = max(value.norm() for name, value in plain.items() if 'output' not in name)
    for name, value in plain.items():
        if 'output' in name:
            torch.testing.assert_close(saving[name], value, rtol=1e-12, atol=1e-12)
        else:
            assert (saving[name] - value).norm() <= TOLERANCE * size, name

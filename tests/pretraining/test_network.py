"""The pre-training network against the published implementation's numbers, in float64."""

from __future__ import annotations

import pytest
import torch

from revcol_backbone.pretraining import RevColPretraining, compound_loss
from tests.golden import DATA, fill, golden_results, image, relative_error

ARCH = dict(channels=(8, 16, 32, 64), layers=(1, 1, 2, 1), columns=8)
CLASSES = {'decoder': 7, 'simple': 1001}
TOLERANCE = 1e-6  # the reference was rounded to float32


@pytest.fixture(params=['decoder', 'simple'])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize('save_memory', [False])
def test_forward_loss_parts_and_gradients_are_the_published_ones(
    kind: str, save_memory: bool
) -> None:
    reference = {
        key.removeprefix(f'{kind}/'): value
        for key, value in golden_results('pretraining').items()
        if key.startswith(f'{kind}/')
    }
    network = fill(RevColPretraining(ARCH, CLASSES[kind], save_memory=save_memory))
    network.double().eval()
    inputs = image((2, 3, 64, 96)).double().requires_grad_()
    labels = image((2, CLASSES[kind]), 'target').double().softmax(dim=1)
    picture = image((2, 3, 64, 96), 'picture').double().sigmoid()

    logits, pictures = network(inputs)
    loss, parts = compound_loss(logits, pictures, labels, picture)
    loss.backward()

    found = {f'logits{index}': value for index, value in enumerate(logits)}
    step = 1 if kind == 'decoder' else 4  # the simple decoder's were stored at every 4th pixel
    for index, value in enumerate(pictures):
        found[f'picture{index}'] = value[..., ::step, ::step]
    found |= {'loss': loss, 'parts': torch.stack(parts), 'grad_input': inputs.grad}
    found |= {f'grad/{name}': value.grad for name, value in network.named_parameters()}
    assert reference.keys() <= found.keys()
    errors = {key: relative_error(found[key], value) for key, value in reference.items()}
    assert max(errors.values()) < TOLERANCE, errors
    assert len(errors) > 10


def test_state_dict_is_that_of_the_published_files(kind: str) -> None:
    with torch.device('meta'):
        network = RevColPretraining(ARCH, CLASSES[kind])
    heads = {
        f'{key} {list(value.shape)}'
        for key, value in network.state_dict().items()
        if key.startswith(('cls_blocks.', 'decoder_blocks.'))
    }
    layout = (DATA / f'layout_pretraining_{kind}.txt').read_text().splitlines()
    assert heads == set(layout)
    rest = {key.split('.')[0] for key in network.state_dict()} - {'cls_blocks', 'decoder_blocks'}
    assert rest == {'stem', *(f'subnet{index}' for index in range(8))}

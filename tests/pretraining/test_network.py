"""The pre-training network against the published implementation's numbers, in float64."""

from __future__ import annotations

import pytest
import torch

from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.pretraining import RevColPretraining, compound_loss
from tests.golden import DATA, fill, golden_results, image, relative_error

pytestmark = pytest.mark.on_device

ARCH = dict(channels=(8, 16, 32, 64), layers=(1, 1, 2, 1), columns=8)
CLASSES = {'decoder': 7, 'simple': 1001}
TOLERANCE = 1e-6  # the reference was rounded to float32


@pytest.fixture(params=['decoder', 'simple'])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(
    'settings',
    [dict(save_memory=False), dict(save_memory=True), dict(save_memory=True, anchor_every=0)],
)
def test_forward_loss_parts_and_gradients_are_the_published_ones(kind: str, settings: dict) -> None:
    reference = {
        key.removeprefix(f'{kind}/'): value
        for key, value in golden_results('pretraining').items()
        if key.startswith(f'{kind}/')
    }
    network = fill(RevColPretraining(ARCH, CLASSES[kind], **settings))
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


def growth_of_memory(**settings: object) -> float:
    """KiB that a training step needs for each further column, gradients of parameters aside."""
    peaks = []
    for columns in (8, 16):
        network = RevColPretraining(dict(ARCH, columns=columns), 7, anchor_every=0, **settings)
        network.requires_grad_(False)
        x, labels = image((2, 3, 128, 192)).requires_grad_(), torch.tensor([1, 5])
        with LiveBytes() as live:
            logits, pictures = network(x)
            compound_loss(logits, pictures, labels, x.detach().sigmoid())[0].backward()
        peaks.append(live.peak)
    return (peaks[1] - peaks[0]) / 8 / 1024


def test_memory_grows_with_the_columns_no_more_than_without_supervision() -> None:
    plain = growth_of_memory(save_memory=False)
    supervised = growth_of_memory(save_memory=True)
    alone = growth_of_memory(save_memory=True, intermediate_supervision=False)
    assert supervised == pytest.approx(alone, abs=0.001 * plain)
    assert supervised < 0.001 * plain


def test_unsuitable_numbers_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match='6 columns have no quarters; give a multiple of 4'):
        RevColPretraining(dict(ARCH, columns=6), 7)
    with pytest.raises(ValueError, match='num_classes=1 is not allowed'):
        RevColPretraining(ARCH, 1)
    with pytest.raises(ValueError, match='images of 64x90 were given'):
        RevColPretraining(ARCH, 7)(image((1, 3, 64, 90)))


def test_a_deployed_network_classifies_alone() -> None:
    network = fill(RevColPretraining(ARCH, 7)).eval()
    x = image((2, 3, 64, 96))
    with torch.no_grad():
        expected = network(x)[0][-1]
        network.switch_to_deploy()
        torch.testing.assert_close(network.classify(x), expected, rtol=1e-4, atol=1e-4)
        with pytest.raises(RuntimeError, match=r'call classify\(\)'):
            network(x)

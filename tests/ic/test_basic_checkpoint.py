"""ResNet checkpoints of torchvision and OpenMMLab load as the basic model: whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models
from torch import nn
from torchvision.models import resnet18

from revcol_backbone.ic import ICConv2d, basic_checkpoint
from revcol_backbone.ic.detection import ICResNet
from tests.golden import fill
from tests.ic.textbook import randomize


def built(checkpoint: Path | str, depth: int = 18, **settings) -> ICResNet:
    """An IC-ResNet as a config builds it."""
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    network = ICResNet(depth, init_cfg=init_cfg, **settings)
    network.init_weights()
    return network


def torchvision_file(path: Path) -> dict[str, torch.Tensor]:
    weights = fill(resnet18()).state_dict()
    torch.save(weights, path)
    return weights


@pytest.mark.parametrize('start', [0.0, 'mean'])
def test_a_torchvision_checkpoint_loads_and_the_log_says_what_keeps_its_start(tmp_path, log, start):
    path = tmp_path / 'resnet18.pth'
    weights = torchvision_file(path)
    network = built(path, collision_start=start)
    state = network.state_dict()
    for key, value in weights.items():
        if not key.startswith('fc.'):
            assert torch.equal(state[key], value), key
    for unit in network.modules():
        if isinstance(unit, ICConv2d):
            expected = unit.weight.mean((1, 2, 3)) if start == 'mean' else 0 * unit.collision_weight
            torch.testing.assert_close(unit.collision_weight, expected)
    assert 'the 32 collision parameters keep their start' in log.text
    assert 'left out 2 of heads and other parts' in log.text


def test_an_openmmlab_classifier_without_counters_loads(tmp_path):
    weights = {
        f'backbone.{key}': value
        for key, value in fill(ResNet(18)).state_dict().items()
        if 'num_batches_tracked' not in key
    }
    weights |= {'head.fc.weight': torch.zeros(10, 512), 'head.fc.bias': torch.zeros(10)}
    torch.save({'state_dict': weights}, tmp_path / 'classifier.pth')
    network = built(tmp_path / 'classifier.pth')
    for key, value in network.state_dict().items():
        if 'backbone.' + key in weights:
            assert torch.equal(value, weights['backbone.' + key]), key


def test_with_a_gain_the_loaded_network_is_the_checkpoint_s(tmp_path):
    path = tmp_path / 'resnet18.pth'
    weights = torchvision_file(path)
    basic = ResNet(18).double()
    basic.eval()  # mmdet returns nothing
    basic.load_state_dict({k: v for k, v in weights.items() if not k.startswith('fc.')}, False)
    x = torch.randn(1, 3, 64, 64, dtype=torch.double)
    for found, expected in zip(
        built(path, collision_gain=True).double().eval()(x), basic(x), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize('gain', [False, True])
def test_an_own_checkpoint_loads_with_its_collision_parameters(tmp_path, log, gain):
    source = randomize(ICResNet(18, collision_gain=gain, base_channels=8))
    torch.save(source.state_dict(), tmp_path / 'ic.pth')
    network = built(tmp_path / 'ic.pth', collision_gain=gain, base_channels=8)
    for key, value in source.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key
    assert 'keep their start' not in log.text


@pytest.mark.parametrize(
    ('stored', 'settings', 'message'),
    [
        (lambda: ICResNet(18, ic_convolutions='all'), {}, '19 units .* and the model 16: set'),
        (lambda: ICResNet(18, collision_gain=True), {}, 'set collision_gain=True, as in the file'),
        (lambda: ICResNet(18), dict(collision_gain=True), 'set collision_gain=False'),
        (lambda: ResNet(34), {}, r'it has \(3, 4, 6, 3\) blocks .* model \(2, 2, 2, 2\): set'),
        (
            lambda: ResNet(18, base_channels=32),
            {},
            r'of another shape conv1.weight \(32, 3, 7, 7\)',
        ),
        (lambda: nn.Sequential(nn.Linear(2, 2)), {}, 'name the checkpoint of such a ResNet'),
    ],
)
def test_other_units_or_another_network_change_nothing(tmp_path, stored, settings, message):
    torch.save(stored().state_dict(), tmp_path / 'other.pth')
    network = ICResNet(18, **settings)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        basic_checkpoint.load_basic(network, str(tmp_path / 'other.pth'))
    assert 'nothing was loaded' in str(error.value)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_an_incomplete_checkpoint_is_an_error(tmp_path):
    path = tmp_path / 'resnet18.pth'
    weights = torchvision_file(path)
    del weights['layer4.1.conv2.weight']
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r'missing layer4\.1\.conv2\.weight'):
        built(path)


def test_names_of_the_model_zoos_become_addresses(monkeypatch):
    asked = []

    def locate(checkpoint: str) -> Path:
        asked.append(checkpoint)
        raise ConnectionError('there is no network in this test')

    monkeypatch.setattr(basic_checkpoint, 'locate_checkpoint', locate)
    for name in ('torchvision://resnet50', 'open-mmlab://resnet50_v1c'):
        with pytest.raises(ConnectionError):
            built(name, depth=50)
    assert asked == [get_torchvision_models()['resnet50'], get_external_models()['resnet50_v1c']]
    with pytest.raises(ValueError, match='torchvision://resnet51 is not a known checkpoint; give'):
        built('torchvision://resnet51')

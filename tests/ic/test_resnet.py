"""The IC-ResNets: ResNets of three libraries in which nothing but the convolutions changed."""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet.models.backbones import ResNet as DetectionResNet
from mmdet.models.necks import FPN
from mmdet.registry import MODELS as DETECTION
from mmpretrain.models.backbones import ResNet as ClassificationResNet
from mmpretrain.registry import MODELS as CLASSIFICATION
from mmseg.models.backbones import ResNet as SegmentationResNet
from mmseg.registry import MODELS as SEGMENTATION
from torch import Tensor, nn

from revcol_backbone.analysis.flops import count_parameters, model_multiply_adds
from revcol_backbone.ic import ICConv2d, classification, detection, segmentation
from revcol_backbone.ic.folding import FoldedICConv2d
from tests.ic.textbook import randomize

pytestmark = pytest.mark.on_device

SMALL = dict(base_channels=8)
REGISTRIES = {'mmdet': DETECTION, 'mmseg': SEGMENTATION, 'mmpretrain': CLASSIFICATION}
NETWORKS = {
    'mmdet': (detection.ICResNet, DetectionResNet),
    'mmseg': (segmentation.ICResNet, SegmentationResNet),
    'mmpretrain': (classification.ICResNet, ClassificationResNet),
}
all_libraries = pytest.mark.parametrize(('network', 'basic'), NETWORKS.values(), ids=NETWORKS)


def images(*size: int) -> Tensor:
    return torch.randn(2, 3, *size)


def train_like(model: nn.Module) -> nn.Module:
    """Norms and units as after training, scales of both signs among them."""
    randomize(model, 0.05)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def units_of(model: nn.Module) -> dict[str, ICConv2d]:
    return {name: unit for name, unit in model.named_modules() if isinstance(unit, ICConv2d)}


@all_libraries
@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
@pytest.mark.parametrize('convolutions', ['3x3', 'all'])
def test_nothing_but_the_convolutions_of_the_stages_changes(network, basic, depth, convolutions):
    # mmpretrain's reads values while it is built, which the meta device does not have.
    with torch.device('cpu' if basic is ClassificationResNet else 'meta'):
        ours = network(depth, ic_convolutions=convolutions, **SMALL)
        theirs = basic(depth, **SMALL)
    stages = [
        name
        for name, module in theirs.named_modules()
        if isinstance(module, nn.Conv2d) and name.startswith('layer')
    ]
    if convolutions == '3x3':
        stages = [name for name in stages if theirs.get_submodule(name).kernel_size == (3, 3)]
    assert list(units_of(ours)) == stages
    own = {f'{name}.{key}' for name in stages for key in ('collision_weight', 'collision_bias')}
    assert set(ours.state_dict()) == set(theirs.state_dict()) | own


@pytest.mark.parametrize('size', [(224, 224), (800, 1344)])
def test_the_cost_is_resnet_50_s(size):
    with torch.device('meta'):
        ours, theirs = detection.ICResNet(50), DetectionResNet(50)
    assert count_parameters(ours) - count_parameters(theirs) == 2 * 3776
    for model in (ours, theirs):
        model.eval()
    assert model_multiply_adds(ours, *size) == pytest.approx(
        model_multiply_adds(theirs, *size), rel=0.01
    )


@all_libraries
@pytest.mark.parametrize('depth', [18, 50])
def test_with_a_gain_it_is_the_basic_model_and_alive(network, basic, depth):
    torch.manual_seed(0)
    theirs = basic(depth, **SMALL).double()
    ours = network(depth, collision_gain=True, **SMALL).double()
    missing = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing.unexpected_keys
    x = images(65, 97).double()
    ours.eval()
    theirs.eval()
    outputs = ours(x)
    for found, expected in zip(outputs, theirs(x), strict=True):
        assert torch.equal(found, expected)
    sum(output.square().mean() for output in outputs).backward()
    for name, unit in units_of(ours).items():
        assert unit.collision_gain.grad.abs().max() > 0, name


@all_libraries
def test_registered_by_its_name(network, basic):
    registry = REGISTRIES[network.__bases__[1].__module__.partition('.')[0]]
    model = registry.build(dict(type='ICResNet', depth=18, **SMALL))
    assert type(model) is network
    assert isinstance(model, basic)


def test_features_go_into_a_pyramid():
    model = detection.ICResNet(50, **SMALL).eval()
    neck = FPN(in_channels=[32, 64, 128, 256], out_channels=16, num_outs=5)
    assert [tuple(level.shape[2:]) for level in neck(model(images(65, 97)))] == [
        (17, 25),
        (9, 13),
        (5, 7),
        (3, 4),
        (2, 2),
    ]


@all_libraries
def test_frozen_stages_freeze_their_collision_parameters(network, basic):
    model = network(18, frozen_stages=1, norm_eval=False, **SMALL)
    assert model.train() is model
    for name, parameter in model.named_parameters():
        frozen = name.startswith(('conv1', 'bn1', 'layer1'))
        assert parameter.requires_grad != frozen, name
    assert not model.layer1[0].bn1.training
    assert model.layer2[0].bn1.training
    assert not network(18, norm_eval=True, **SMALL).train().layer2[0].bn1.training


def test_initial_weights_are_drawn_as_the_resnet_draws_them():
    torch.manual_seed(0)
    ours = detection.ICResNet(18, collision_start='mean', **SMALL)
    ours.init_weights()
    torch.manual_seed(0)
    theirs = DetectionResNet(18, **SMALL)
    theirs.init_weights()
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    for unit in units_of(ours).values():
        torch.testing.assert_close(unit.collision_weight, unit.weight.mean((1, 2, 3)))


@all_libraries
@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(ic_convolutions='all', collision_gain=True),
        dict(deep_stem=True, avg_down=True, frozen_stages=2),
    ],
)
def test_switching_to_deploy_keeps_the_function(network, basic, depth, settings):
    torch.manual_seed(0)
    model = train_like(network(depth, **settings, **SMALL)).eval()
    x = images(65, 97)
    with torch.no_grad():
        expected = model(x)
        deployed = copy.deepcopy(model)
        deployed.switch_to_deploy()
        deployed.switch_to_deploy()
        loaded = network(depth, deploy=True, **settings, **SMALL)
        loaded.load_state_dict(deployed.state_dict())
        for found in (deployed(x), loaded(x)):
            for output, reference in zip(found, expected, strict=True):
                scale = reference.abs().max()
                assert (output - reference).abs().max() < 1e-5 * scale
    assert any(isinstance(module, FoldedICConv2d) for module in deployed.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    with pytest.raises(RuntimeError, match='cannot be trained; build it anew with deploy=False'):
        deployed.train()


def test_checkpointed_blocks_give_the_same_gradients():
    torch.manual_seed(0)
    plain = randomize(detection.ICResNet(18, **SMALL)).train()
    checkpointed = detection.ICResNet(18, with_cp=True, **SMALL).train()
    checkpointed.load_state_dict(plain.state_dict())
    x = images(64, 64).requires_grad_()
    for network in (plain, checkpointed):
        network(x)[-1].sum().backward()
    for found, expected in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(depth=26), 'ICResNet depth=26 is not allowed; give one of 18, 34, 50, 101, 152'),
        (dict(depth=18, ic_convolutions='1x1'), "ic_convolutions='1x1' is not allowed"),
        (dict(depth=18, conv_cfg=dict(type='ConvWS')), 'leave conv_cfg out'),
        (dict(depth=18, dcn=dict(type='DCNv2')), 'leave dcn out'),
        (dict(depth=18, collision_start='x'), "collision_start='x' is not allowed"),
    ],
)
def test_refuses_settings_that_there_are_not(settings, message):
    with pytest.raises(ValueError, match=message):
        detection.ICResNet(**settings)

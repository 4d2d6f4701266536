"""RevCol and RedNet as Detectron2's builders, pyramids and checkpointers see them."""

from __future__ import annotations

import copy
import functools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import FPN, Backbone, build_backbone
from detectron2.solver.build import get_default_optimizer_params
from mmengine.optim import build_optim_wrapper
from torch import nn

from revcol_backbone import RevCol
from revcol_backbone.ic.detection import ICResNet
from revcol_backbone.integrations.detectron2 import (
    ICResNetBackbone,
    RedNetBackbone,
    RevColBackbone,
    add_revcol_config,
    revcol_lr_factor,
    revcol_weight_decay_overrides,
)
from tests.golden import fill, image


def pyramid(arch: dict, **arguments) -> FPN:
    bottom_up = RevColBackbone(arch, **arguments)
    return FPN(bottom_up, list(bottom_up.output_shape()), out_channels=8)


def test_the_levels_are_those_of_revcol_by_name(small_arch: dict) -> None:
    model, x = fill(RevColBackbone(small_arch)).eval(), image((1, 3, 70, 96))
    expected = fill(RevCol(small_arch)).eval()(x)
    assert isinstance(model, Backbone)
    found = model(x)
    assert list(found) == ['res2', 'res3', 'res4', 'res5']
    torch.testing.assert_close(tuple(found.values()), expected, rtol=0, atol=0)
    for name, shape in model.output_shape().items():
        assert shape.channels == found[name].shape[1]
    assert [shape.stride for shape in model.output_shape().values()] == [4, 8, 16, 32]
    assert model.size_divisibility == 32
    assert model.padding_constraints == {'size_divisibility': 32}


@pytest.mark.parametrize(
    ('network', 'channels'),
    [
        (functools.partial(RedNetBackbone, 26), (256, 512, 1024, 2048)),
        (functools.partial(ICResNetBackbone, 18), (64, 128, 256, 512)),
        (functools.partial(ICResNetBackbone, 50), (256, 512, 1024, 2048)),
    ],
    ids=['RedNet', 'IC-ResNet-18', 'IC-ResNet-50'],
)
def test_the_other_networks_keep_the_same_contract(network, channels: tuple[int, ...]) -> None:
    whole, part = network().eval(), network(out_features=['res3', 'res5']).eval()
    assert isinstance(whole, Backbone)
    assert [s.channels for s in whole.output_shape().values()] == list(channels)
    found, shapes = part(image((1, 3, 70, 96))), part.output_shape()
    assert list(found) == list(shapes) == ['res3', 'res5']
    for level, shape in zip(found.values(), shapes.values(), strict=True):
        assert level.shape[1] == shape.channels
        assert level.shape[2:] == (math.ceil(70 / shape.stride), 96 // shape.stride)
    keys = FPN(whole, ['res4', 'res5'], out_channels=8).state_dict()
    own = {key.removeprefix('bottom_up.') for key in keys if key.startswith('bottom_up.')}
    assert own == set(whole.state_dict())


@pytest.mark.parametrize('depth', [18, 50])
def test_ic_resnet_is_that_of_mmdet(depth: int, tmp_path: Path) -> None:
    theirs, x = fill(ICResNet(depth)).eval(), image((1, 3, 70, 96))
    torch.save({'state_dict': theirs.state_dict()}, tmp_path / 'ic.pth')
    ours = ICResNetBackbone(depth, pretrained=str(tmp_path / 'ic.pth')).eval()
    expected = theirs(x)
    torch.testing.assert_close(tuple(ours(x).values()), expected, rtol=1e-5, atol=1e-5)
    ours.switch_to_deploy()
    for found, level in zip(ours(x).values(), expected, strict=True):
        torch.testing.assert_close(found, level, rtol=0, atol=1e-4 * level.abs().max().item())


def test_ic_resnet_starts_from_an_ordinary_resnet(tmp_path: Path) -> None:
    basic = fill(torchvision.models.resnet18())
    torch.save(basic.state_dict(), tmp_path / 'resnet18.pth')
    model = ICResNetBackbone(18, pretrained=str(tmp_path / 'resnet18.pth'))
    own, stored = model.state_dict(), basic.state_dict()
    for key, value in stored.items():
        if not key.startswith('fc.'):
            torch.testing.assert_close(own[key], value, rtol=0, atol=0)


def test_frozen_stages_of_ic_resnet_get_no_gradients() -> None:
    model = ICResNetBackbone(18, frozen_stages=1)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(('conv1.', 'bn1.', 'layer1.'))
    }
    model.train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    sum(level.sum() for level in model(image((1, 3, 64, 64))).values()).backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == frozen


def test_keys_below_a_pyramid_begin_with_bottom_up(small_arch: dict) -> None:
    keys = pyramid(small_arch).state_dict()
    own = {key.removeprefix('bottom_up.') for key in keys if key.startswith('bottom_up.')}
    assert own == set(RevCol(small_arch).state_dict())


@pytest.mark.parametrize('save_memory', [False, True])
def test_a_pyramid_trains_alike_in_both_memory_modes(small_arch: dict, save_memory: bool) -> None:
    found = []
    for mode in (save_memory, False):
        torch.manual_seed(0)
        model = fill(pyramid(small_arch, save_memory=mode, frozen_columns=1)).double()
        sum(
            level.square().sum() for level in model(image((1, 3, 64, 96)).double()).values()
        ).backward()
        found.append([p.grad for p in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    names = [name for name, _ in model.named_parameters()]
    frozen = [n for n, grad in zip(names, found[0], strict=True) if grad is None]
    assert frozen == [n for n in names if n.startswith(('bottom_up.stem', 'bottom_up.subnet0'))]


def test_a_deployed_backbone_gives_the_same_levels(small_arch: dict) -> None:
    model, x = fill(RevColBackbone(small_arch)).eval(), image((1, 3, 64, 64))
    expected = model(x)
    model.switch_to_deploy()
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_a_yacs_config_builds_the_pyramid() -> None:
    cfg = get_cfg()
    add_revcol_config(cfg)
    cfg.MODEL.BACKBONE.NAME = 'build_revcol_fpn_backbone'
    cfg.MODEL.FPN.IN_FEATURES = ['res2', 'res3', 'res4', 'res5']
    cfg.MODEL.REVCOL.DROP_PATH_RATE = 0.3
    model = build_backbone(cfg)
    assert list(model.output_shape()) == ['p2', 'p3', 'p4', 'p5', 'p6']
    assert sum(p.numel() for p in model.bottom_up.parameters()) == 29_942_144


def test_no_library_of_openmmlab_but_mmengine_is_needed() -> None:
    code = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'mim'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Block())
import torch
from revcol_backbone.integrations.detectron2 import (
    ICResNetBackbone, RedNetBackbone, RevColBackbone
)
for model in (RevColBackbone('tiny'), RedNetBackbone(26), ICResNetBackbone(18)):
    assert len(model.eval()(torch.zeros(1, 3, 32, 32))) == 4
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('features', [[], ['res1'], ['res2', 'res2'], ['p2']])
def test_levels_that_do_not_exist_are_refused(small_arch: dict, features: list) -> None:
    with pytest.raises(ValueError, match='out_features|out_indices'):
        RevColBackbone(small_arch, out_features=features)


class Detector(nn.Module):
    """What is above the pyramid in a detector, in small."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(8, 4, 1)


def test_learning_rates_and_weight_decay_equal_those_of_openmmlab(small_arch: dict) -> None:
    model = Detector(pyramid(small_arch))
    groups = get_default_optimizer_params(
        model,
        base_lr=2e-4,
        weight_decay=0.05,
        weight_decay_norm=0.0,
        overrides=revcol_weight_decay_overrides(),
        lr_factor_func=revcol_lr_factor(small_arch, 0.85),
    )
    ours = {p: (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    reference = Detector(pyramid(small_arch))
    wrapper = build_optim_wrapper(
        _as_openmmlab(reference),
        dict(
            type='OptimWrapper',
            constructor='RevColLayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(decay_rate=0.85),
            optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.05),
        ),
    )
    theirs = {
        p: (g['lr'], g['weight_decay']) for g in wrapper.optimizer.param_groups for p in g['params']
    }
    pairs = list(zip(model.parameters(), reference.parameters(), strict=True))
    assert len(pairs) > 60
    for own, other in pairs:
        assert ours[own] == pytest.approx(theirs[other], rel=1e-12)


def _as_openmmlab(detector: Detector) -> nn.Module:
    """The same modules where MMDetection has them: the backbone itself is ``backbone``."""
    model = nn.Module()
    model.backbone = detector.backbone.bottom_up
    model.neck = detector.backbone
    model.head = detector.head
    return model


class TestCheckpoints:
    def save(self, path, weights: dict) -> str:
        torch.save({'model': weights}, path)
        return str(path)

    def test_published_weights_load_through_the_project(self, tmp_path, small_arch) -> None:
        published = fill(RevCol(small_arch)).state_dict()
        file = self.save(
            tmp_path / 'published.pth', {**published, 'cls.classifier.0.bias': torch.ones(3)}
        )
        model = RevColBackbone(small_arch, pretrained=file)
        torch.testing.assert_close(dict(model.state_dict()), dict(published), rtol=0, atol=0)

    def test_a_detector_of_detectron2_loads_whole(self, tmp_path, small_arch) -> None:
        trained = fill(Detector(pyramid(small_arch)))
        DetectionCheckpointer(trained, str(tmp_path)).save('model_final')
        model = Detector(pyramid(small_arch))
        DetectionCheckpointer(model).load(str(tmp_path / 'model_final.pth'))
        torch.testing.assert_close(model.state_dict(), trained.state_dict(), rtol=0, atol=0)

    @pytest.mark.parametrize('case', ['bare', 'one missing', 'another kernel', 'openmmlab'])
    def test_what_the_checkpointer_would_drop_is_an_error(self, tmp_path, small_arch, case) -> None:
        model = Detector(pyramid(small_arch))
        weights = fill(copy.deepcopy(model)).state_dict()
        if case == 'bare':
            weights = fill(RevCol(small_arch)).state_dict()
        elif case == 'one missing':
            del weights['backbone.bottom_up.subnet1.alpha2']
        elif case == 'another kernel':
            weights = fill(Detector(pyramid(small_arch, kernel_size=7))).state_dict()
        else:
            weights = {f'backbone.{k}': v for k, v in fill(RevCol(small_arch)).state_dict().items()}
        before = copy.deepcopy(model.backbone.bottom_up.state_dict())
        with pytest.raises(ValueError, match='does not fit RevColBackbone.*convert_checkpoint'):
            DetectionCheckpointer(model).load(self.save(tmp_path / 'other.pth', weights))
        after = model.backbone.bottom_up.state_dict()
        torch.testing.assert_close(after, before, rtol=0, atol=0)

    def test_kernels_that_are_too_large_are_not_loaded(self, tmp_path, small_arch) -> None:
        weights = fill(RevCol(small_arch, kernel_size=7)).state_dict()
        file = self.save(tmp_path / 'k7.pth', weights)
        with pytest.raises(ValueError, match='7x7 kernels'):
            RevColBackbone(small_arch, kernel_size=3, pretrained=file)

    def test_smaller_kernels_are_padded(self, tmp_path, small_arch) -> None:
        small, x = fill(RevCol(small_arch)).eval(), image((1, 3, 64, 64))
        file = self.save(tmp_path / 'k3.pth', small.state_dict())
        model = RevColBackbone(small_arch, kernel_size=7, pretrained=file).eval()
        torch.testing.assert_close(tuple(model(x).values()), small(x), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize('network', [RedNetBackbone, ICResNetBackbone])
    def test_the_other_networks_load_whole_or_not_at_all(self, tmp_path, network) -> None:
        depth = 26 if network is RedNetBackbone else 18

        def detector() -> Detector:
            return Detector(FPN(network(depth), ['res4', 'res5'], out_channels=8))

        trained, model = fill(detector()), detector()
        before = copy.deepcopy(model.backbone.bottom_up.state_dict())
        whole = dict(trained.state_dict())
        bare = {key.removeprefix('backbone.bottom_up.'): value for key, value in whole.items()}
        part = {key: value for key, value in whole.items() if 'layer3.1.conv1' not in key}
        for weights in (bare, part):
            file = self.save(tmp_path / 'other.pth', weights)
            with pytest.raises(ValueError, match=f'does not fit {network.__name__}'):
                DetectionCheckpointer(model).load(file)
            after = model.backbone.bottom_up.state_dict()
            torch.testing.assert_close(after, before, rtol=0, atol=0)
        DetectionCheckpointer(model).load(self.save(tmp_path / 'whole.pth', whole))
        torch.testing.assert_close(dict(model.state_dict()), whole, rtol=0, atol=0)

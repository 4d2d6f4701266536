"""The involution neck in mmseg, and the Cityscapes configs of RedNet-50."""

from __future__ import annotations

import importlib

import pytest
import torch
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.models.necks import FPN
from mmseg.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.involution import Involution
from revcol_backbone.involution.segmentation import InvolutionFPN
from tests.configs import build_model, load_config, millions

# Published in the release's README: millions of parameters, billions of multiply-adds.
PUBLISHED = {
    'rednet50_fpn': (18.5, 293.9),
    'rednet50_fpn_neck': (16.4, 205.2),
    'rednet50_upernet': (56.4, 1825.6),
}
# The published counts are four times those of the 512x1024 crops: they are of whole images.
IMAGE = (1024, 2048)
every_config = pytest.mark.parametrize('name', PUBLISHED)


def config_of(name):
    config = load_config(f'seg_configs/{name}.py')
    for module in config.custom_imports.imports:
        importlib.import_module(module)
    return config


def test_the_fpn_replaces_the_convolutions_of_its_levels_alone():
    settings = dict(in_channels=[32, 64], out_channels=32, num_outs=2)
    neck = MODELS.build(dict(type='InvolutionFPN', **settings))
    plain = FPN(**settings)
    assert isinstance(neck, FPN)
    assert type(neck) is InvolutionFPN
    assert all(isinstance(layer, Involution) for layer in neck.fpn_convs)
    features = [torch.randn(1, 32, 9, 13), torch.randn(1, 64, 5, 7)]
    assert [out.shape for out in neck(features)] == [out.shape for out in plain(features)]


@every_config
def test_parameters_and_multiply_adds_are_the_published_ones(name):
    parameters, multiply_adds = PUBLISHED[name]
    config = config_of(name)
    model = revert_sync_batchnorm(build_model(config, 'meta')).to('meta').eval()
    assert millions(model) == pytest.approx(parameters, rel=0.01)
    with (
        torch.no_grad(),
        torch.device('meta'),
        DefaultScope.overwrite_default_scope('mmseg'),
        FlopCounterMode(display=False) as counter,
    ):
        model.encode_decode(torch.empty(1, 3, *IMAGE), [dict(img_shape=IMAGE)])
    assert counter.get_total_flops() / 2e9 == pytest.approx(multiply_adds, rel=0.03)


@every_config
def test_only_the_stem_and_the_involutions_have_plain_normalization(name):
    model = build_model(config_of(name), 'meta')
    plain = {name for name, module in model.named_modules() if type(module) is nn.BatchNorm2d}
    involutions = {name for name, module in model.named_modules() if type(module) is Involution}
    expected = {f'{name}.conv1.bn' for name in involutions}
    expected |= {f'backbone.stem.{name}' for name in ('0.bn', '2', '4.bn')}
    assert plain == expected
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


@every_config
def test_the_recipe_is_the_published_one(name):
    config = config_of(name)
    backbone = config.model.backbone
    assert (backbone.type, backbone.depth, backbone.norm_eval) == ('RedNet', 50, False)
    assert backbone.norm_cfg.type == 'SyncBN'
    assert backbone.involution_norm_cfg.type == 'BN'
    assert backbone.init_cfg.type == 'Pretrained'
    assert config.train_cfg.max_iters == 80000
    assert config.crop_size == (512, 1024)
    assert config.model.data_preprocessor.size == (512, 1024)
    assert config.train_dataloader.dataset.type == 'CityscapesDataset'
    expected = {'rednet50_fpn': 'FPN', 'rednet50_fpn_neck': 'InvolutionFPN'}
    neck = config.model.get('neck')
    assert (neck.type if neck else None) == expected.get(name)

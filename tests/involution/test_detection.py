"""The involution necks and heads in mmdet, and the COCO configs of RedNet-50."""

from __future__ import annotations

import importlib

import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.necks import FPN
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.involution import Involution
from revcol_backbone.involution.detection import (
    InvolutionFCNMaskHead,
    InvolutionFPN,
    InvolutionRPNHead,
)
from tests.configs import build_model, load_config, millions

# Published in the release's README: millions of parameters, billions of multiply-adds at 1280x800.
PUBLISHED = {
    'rednet50_faster_rcnn': (31.6, 177.9),
    'rednet50_faster_rcnn_neck': (29.5, 135.0),
    'rednet50_faster_rcnn_neck_head': (29.0, 91.5),
    'rednet50_mask_rcnn': (34.2, 224.2),
    'rednet50_mask_rcnn_neck': (32.2, 181.3),
    'rednet50_mask_rcnn_neck_head': (29.5, 104.6),
    'rednet50_retinanet': (27.8, 210.1),
    'rednet50_retinanet_neck': (26.3, 199.9),
}
# Proposals that the count runs the box head and the mask head on.
PROPOSALS, MASKS = 1000, 100
every_config = pytest.mark.parametrize('name', PUBLISHED)


@pytest.fixture(autouse=True)
def _mmdet_scope():
    """mmdet's heads look their losses up in the current scope, which a runner may have left."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def config_of(name):
    config = load_config(f'det_configs/{name}.py')
    for module in config.custom_imports.imports:
        importlib.import_module(module)
    return config


def names_of_involutions(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, Involution)}


def test_the_fpn_replaces_the_convolutions_of_its_own_levels_alone():
    settings = dict(in_channels=[32, 64], out_channels=32, num_outs=3, add_extra_convs='on_input')
    neck = MODELS.build(dict(type='InvolutionFPN', **settings))
    plain = FPN(**settings)
    assert isinstance(neck, FPN)
    assert names_of_involutions(neck) == {'fpn_convs.0', 'fpn_convs.1'}
    assert {layer.kernel_size for layer in neck.fpn_convs[:2]} == {7}
    kept = {key for key in plain.state_dict() if not key.startswith(('fpn_convs.0', 'fpn_convs.1'))}
    assert kept == {key for key in neck.state_dict() if key in plain.state_dict()}
    features = [torch.randn(1, 32, 9, 13), torch.randn(1, 64, 5, 7)]
    assert [out.shape for out in neck(features)] == [out.shape for out in plain(features)]


def test_the_fpn_has_no_activation_to_configure():
    with pytest.raises(ValueError, match='omit act_cfg'):
        InvolutionFPN([32], 32, 1, act_cfg=dict(type='ReLU'))


@pytest.mark.parametrize('num_convs', [1, 2])
def test_the_rpn_head_replaces_its_convolutions(num_convs):
    head = InvolutionRPNHead(in_channels=32, feat_channels=32, num_convs=num_convs)
    plain = RPNHead(in_channels=32, feat_channels=32, num_convs=num_convs)
    expected = {'rpn_conv'} if num_convs == 1 else {'rpn_conv.0.0', 'rpn_conv.1.0'}
    assert names_of_involutions(head) == expected
    x = [torch.randn(1, 32, 9, 13)]
    for found, wanted in zip(head(x), plain(x), strict=True):
        assert found[0].shape == wanted[0].shape


def test_the_mask_head_replaces_its_convolutions():
    settings = dict(num_convs=4, in_channels=32, conv_out_channels=32, num_classes=5)
    head, plain = InvolutionFCNMaskHead(**settings), FCNMaskHead(**settings)
    assert names_of_involutions(head) == {f'convs.{index}.0' for index in range(4)}
    assert all(isinstance(conv[1], nn.ReLU) for conv in head.convs)
    kept = {key for key in plain.state_dict() if not key.startswith('convs')}
    assert kept == {key for key in head.state_dict() if not key.startswith('convs')}
    for proposals in (3, 0):
        x = torch.randn(proposals, 32, 14, 14)
        assert head(x).shape == plain(x).shape


@pytest.mark.parametrize(
    'build',
    [
        lambda: InvolutionRPNHead(in_channels=256, feat_channels=256),
        lambda: InvolutionRPNHead(in_channels=256, feat_channels=256, num_convs=2),
        lambda: InvolutionFCNMaskHead(in_channels=256, conv_out_channels=256, num_convs=1),
    ],
)
def test_the_involutions_of_heads_start_as_in_the_release(build):
    head = build()
    head.init_weights()
    for layer in (module for module in head.modules() if isinstance(module, Involution)):
        # Kaiming by fan out: sqrt(2 / 64) and sqrt(2 / 784).
        assert layer.conv1.conv.weight.std().item() == pytest.approx(0.1768, rel=0.02)
        assert layer.conv2.conv.weight.std().item() == pytest.approx(0.0505, rel=0.02)
        assert not layer.conv2.conv.bias.any()


def test_the_other_convolutions_of_the_rpn_head_start_as_in_mmdet():
    head = InvolutionRPNHead(in_channels=256, feat_channels=256)
    head.init_weights()
    for layer in (head.rpn_cls, head.rpn_reg):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not layer.bias.any()


def test_the_rpn_head_can_be_told_another_initialization():
    init_cfg = dict(type='Constant', layer='Conv2d', val=0.5)
    head = InvolutionRPNHead(in_channels=32, feat_channels=32, init_cfg=init_cfg)
    head.init_weights()
    assert (head.rpn_conv.conv2.conv.weight == 0.5).all()


@pytest.mark.parametrize(
    ('build', 'name'),
    [
        (lambda: InvolutionRPNHead(in_channels=32, feat_channels=64), 'feat_channels=64'),
        (
            lambda: InvolutionFCNMaskHead(in_channels=32, conv_out_channels=64),
            'conv_out_channels=64',
        ),
    ],
)
def test_heads_refuse_to_change_the_number_of_channels(build, name):
    with pytest.raises(ValueError, match=f'{name} is not allowed.*give in_channels=32'):
        build()


@every_config
def test_parameters_and_multiply_adds_are_the_published_ones(name):
    parameters, multiply_adds = PUBLISHED[name]
    config = config_of(name)
    model = build_model(config, 'meta').eval()
    assert millions(model) == pytest.approx(parameters, rel=0.01)
    assert count_multiply_adds(model) / 1e9 == pytest.approx(multiply_adds, rel=0.03)


def count_multiply_adds(model: nn.Module) -> float:
    with (
        torch.no_grad(),
        torch.device('meta'),
        DefaultScope.overwrite_default_scope('mmdet'),
        FlopCounterMode(display=False) as counter,
    ):
        features = model.extract_feat(torch.empty(1, 3, 800, 1280))
        if not hasattr(model, 'roi_head'):
            model.bbox_head(features)
            return counter.get_total_flops() / 2
        model.rpn_head(features)
        model.roi_head.bbox_head(torch.empty(PROPOSALS, 256, 7, 7))
        if model.roi_head.with_mask:
            model.roi_head.mask_head(torch.empty(MASKS, 256, 14, 14))
        return counter.get_total_flops() / 2


@every_config
def test_the_recipe_is_the_published_one(name):
    config = config_of(name)
    backbone = config.model.backbone
    assert (backbone.type, backbone.depth, backbone.stem_kernel_size) == ('RedNet', 50, 3)
    assert (backbone.frozen_stages, backbone.norm_eval) == (1, True)
    assert backbone.init_cfg.type == 'Pretrained'
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ('SGD', 0.9, 1e-4)
    assert optimizer.lr == (0.01 if 'retinanet' in name else 0.02)
    assert config.train_cfg.max_epochs == 12
    warmup, steps = config.param_scheduler
    assert warmup.end == (500 if name in ('rednet50_faster_rcnn', 'rednet50_mask_rcnn') else 2000)
    assert (steps.milestones, steps.gamma) == ([8, 11], 0.1)
    assert config.auto_scale_lr.base_batch_size == 16


@every_config
def test_the_name_says_what_is_an_involution(name):
    model = config_of(name).model
    assert (model.neck.type == 'InvolutionFPN') == ('neck' in name)
    if 'retinanet' not in name:
        assert (model.rpn_head.type == 'InvolutionRPNHead') == ('head' in name)
    if 'mask' in name:
        is_involution = model.roi_head.mask_head.type == 'InvolutionFCNMaskHead'
        assert is_involution == ('head' in name)

"""Layer-wise learning-rate decay: learning rate and weight decay of every parameter."""

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from revcol_backbone import VARIANTS, RevCol
from revcol_backbone.engine.layer_decay import RevColLayerDecayOptimWrapperConstructor
from tests.configs import expected_layer_id

TOY = dict(channels=(8, 16, 24, 32), layers=(2, 1, 3, 2), columns=3, long_up=True)
LR, WEIGHT_DECAY, RATE = 1e-3, 0.05, 0.5
LAST_ID = 8 + 3


class Detector(nn.Module):
    """A backbone with a neck that has a matrix, a bias and a norm, like any head."""

    def __init__(self, **backbone):
        super().__init__()
        self.backbone = RevCol(**{'arch': TOY, **backbone})
        self.neck = nn.Sequential(nn.Linear(32, 4), nn.LayerNorm(4))


def build(model, optimizer=None, **paramwise_cfg):
    config = dict(
        type='OptimWrapper',
        constructor='RevColLayerDecayOptimWrapperConstructor',
        paramwise_cfg=paramwise_cfg or dict(decay_rate=RATE),
        optimizer=optimizer or dict(type='AdamW', lr=LR, weight_decay=WEIGHT_DECAY),
    )
    return build_optim_wrapper(model, config).optimizer


def settings(model, optimizer):
    """{parameter name: its group}, checked to hold every parameter once."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [(names[p], group) for group in optimizer.param_groups for p in group['params']]
    assert len(found) == len({name for name, _ in found})
    return dict(found)


def test_it_is_registered_for_every_openmmlab_project():
    name = 'RevColLayerDecayOptimWrapperConstructor'
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(name) is RevColLayerDecayOptimWrapperConstructor


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('backbone.stem.0.weight', 0),
        ('backbone.stem.1.weight', 0),
        ('backbone.subnet0.level0.blocks.0.dwconv.weight', 1),
        ('backbone.subnet0.level0.blocks.1.dwconv.weight', 2),
        ('backbone.subnet0.level1.fusion.down.0.weight', 3),
        ('backbone.subnet0.level2.fusion.down.0.weight', 4),
        ('backbone.subnet0.level2.blocks.2.pwconv1.weight', 6),
        ('backbone.subnet0.level3.blocks.1.pwconv2.weight', 8),
        ('backbone.subnet0.alpha3', 1),
        ('backbone.subnet1.alpha0', 2),
        ('backbone.subnet1.level0.fusion.up.channel_reschedule.0.weight', 2),
        ('backbone.subnet2.level0.fusion.up2.channel_reschedule.0.weight', 3),
        ('backbone.subnet2.level3.fusion.down.0.weight', 9),
        ('backbone.subnet2.level3.blocks.1.pwconv2.weight', 10),
        ('neck.0.weight', LAST_ID),
        ('neck.1.bias', LAST_ID),
    ],
)
def test_the_learning_rate_falls_with_the_distance_from_the_heads(name, expected):
    model = Detector()
    group = settings(model, build(model))[name]
    assert group['lr'] == pytest.approx(LR * RATE ** (LAST_ID - expected))
    assert group['lr_scale'] == pytest.approx(RATE ** (LAST_ID - expected))


def test_every_parameter_of_every_variant_follows_the_rule():
    for name, arch in VARIANTS.items():
        with torch.device('meta'):
            backbone = RevCol(arch)
        last = sum(arch.layers) + arch.columns
        for parameter, group in settings(backbone, build(backbone)).items():
            distance = last - expected_layer_id(parameter, arch.layers)
            assert group['lr'] == pytest.approx(LR * RATE**distance), (name, parameter)


def test_vectors_biases_and_alpha_get_no_weight_decay():
    model = Detector()
    found = settings(model, build(model))
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or name.endswith('bias') or '.alpha' in name
        assert found[name]['weight_decay'] == (0 if exempt else WEIGHT_DECAY), name
    assert found['backbone.subnet1.alpha2']['weight_decay'] == 0
    assert found['backbone.subnet1.level0.blocks.0.gamma']['weight_decay'] == 0
    assert found['backbone.subnet1.level0.blocks.0.dwconv.weight']['weight_decay'] == WEIGHT_DECAY


def test_without_a_base_weight_decay_vectors_still_get_none():
    model = Detector()
    found = settings(model, build(model, dict(type='AdamW', lr=LR)))
    assert found['neck.1.weight']['weight_decay'] == 0
    assert found['neck.0.weight']['weight_decay'] == 0.01  # torch's own default


def test_groups_are_merged_ordered_and_named():
    groups = build(Detector()).param_groups
    names = [group['group_name'] for group in groups]
    assert len(set(names)) == len(names) == 2 * (LAST_ID + 1)
    assert names[:2] == ['layer0_decay', 'layer0_no_decay']
    assert names[-2:] == ['heads_decay', 'heads_no_decay']
    assert all(len(group['params']) == len(group['param_names']) for group in groups)


def test_a_rate_of_one_leaves_two_groups():
    groups = build(Detector(), decay_rate=1.0).param_groups
    assert [group['group_name'] for group in groups] == [
        'layers0-10_and_heads_decay',
        'layers0-10_and_heads_no_decay',
    ]
    assert {group['lr'] for group in groups} == {LR}


def test_the_groups_are_logged(log):
    build(Detector(frozen_columns=0))
    text = log.text
    assert 'heads_decay: 1 tensors, lr 0.001 (scale 1), weight decay 0.05' in text
    assert '4 frozen tensors' in text


def test_a_bare_backbone_is_enough():
    backbone = RevCol(TOY)
    found = settings(backbone, build(backbone))
    assert found['stem.0.weight']['lr'] == pytest.approx(LR * RATE**LAST_ID)


@pytest.fixture
def process_group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures('process_group')
def test_a_distributed_data_parallel_model_has_the_same_groups():
    model = Detector()
    expected = [group['param_names'] for group in build(model).param_groups]
    wrapped = MMDistributedDataParallel(model)
    assert [group['param_names'] for group in build(wrapped).param_groups] == expected


def test_frozen_parameters_are_left_out():
    model = Detector(frozen_columns=1)
    found = settings(model, build(model))
    assert not any(name.startswith(('backbone.stem', 'backbone.subnet0')) for name in found)
    assert found['backbone.subnet1.alpha0']['lr'] == pytest.approx(LR * RATE ** (LAST_ID - 2))


def test_a_shared_parameter_is_taken_once():
    model = Detector()
    model.second_neck = model.neck
    found = settings(model, build(model))
    assert 'neck.0.weight' in found
    assert 'second_neck.0.weight' not in found


def test_two_backbones_are_each_measured_by_their_own_size():
    model = Detector()
    model.second = RevCol(dict(TOY, columns=2))
    found = settings(model, build(model))
    assert found['backbone.stem.0.weight']['lr'] == pytest.approx(LR * RATE**LAST_ID)
    assert found['second.stem.0.weight']['lr'] == pytest.approx(LR * RATE ** (LAST_ID - 1))


def test_what_a_subclass_adds_learns_like_the_heads():
    class WithNorm(RevCol):
        def __init__(self):
            super().__init__(TOY)
            self.norm = nn.LayerNorm(32)

    model = WithNorm()
    assert settings(model, build(model))['norm.weight']['lr'] == LR
    assert VARIANTS['tiny'].layer_id('norm.weight') is None


@pytest.mark.parametrize(
    ('paramwise_cfg', 'words'),
    [
        (dict(decay_rate=0.9, num_layers=12), 'num_layers'),
        (dict(custom_keys={}), 'decay_rate'),
        (dict(decay_rate=0.0), 'above 0'),
        (dict(decay_rate=1.5), 'at most 1'),
        (dict(decay_rate=True), 'True'),
    ],
)
def test_other_paramwise_settings_are_an_error(paramwise_cfg, words):
    with pytest.raises(ValueError, match=words):
        build(Detector(), **paramwise_cfg)


def test_missing_paramwise_settings_are_an_error():
    optim_wrapper_cfg = dict(optimizer=dict(type='SGD', lr=LR))
    with pytest.raises(ValueError, match='decay_rate'):
        RevColLayerDecayOptimWrapperConstructor(optim_wrapper_cfg)


def test_an_optimizer_without_a_learning_rate_is_an_error():
    with pytest.raises(ValueError, match='add lr'):
        build(Detector(), dict(type='AdamW'))


def test_a_model_without_revcol_is_an_error():
    with pytest.raises(ValueError, match='found no RevCol in Linear'):
        build(nn.Linear(2, 2))

"""Every published number is in its config and in its metafile, and the built models agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from revcol_backbone import VARIANTS, RevCol
from revcol_backbone.model_zoo import read_model_index
from tests.configs import ROOT, build_model, load_config, millions
from tests.published_numbers import (
    BACKBONES,
    CASCADE,
    CASCADE_TARGET_STDS,
    CLASSIFIERS,
    HEADLINES,
    HUB,
    HUGE_WEIGHTS,
    PRETRAINED_CLASSIFIERS,
    REDNET_DETECTORS,
    REDNET_SEGMENTORS,
    RELEASE,
    UPERNET,
)

MODELS = {model.name: model for model in read_model_index(ROOT / 'model-index.yml')}
CASCADE_AND_HTC = [*CASCADE, 'revcol_h_cascade', 'revcol_t_htc', 'revcol_h_htc']


def of(table):
    return pytest.mark.parametrize('name', table)


@of(BACKBONES)
def test_a_variant_has_the_published_widths_depths_columns_and_parameters(name):
    channels, layers, columns, kernel_size, parameters = BACKBONES[name]
    variant = VARIANTS[name]
    assert (tuple(variant.channels), tuple(variant.layers)) == (channels, layers)
    assert variant.columns == columns
    with torch.device('meta'):
        backbone = RevCol(name)
    kernels = {m.kernel_size for m in backbone.modules() if getattr(m, 'groups', 1) > 1}
    assert kernels == {(kernel_size, kernel_size)}
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters


@of(CASCADE)
def test_a_cascade_config_has_the_numbers_of_its_release(name):
    numbers, config = CASCADE[name], load_config(f'det_configs/{name}.py')
    backbone = config.model.backbone
    assert (backbone.type, backbone.arch) == ('RevCol', numbers.arch)
    assert backbone.drop_path_rate == numbers.drop_path
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=RELEASE + numbers.weights)
    assert config.model.neck.in_channels == list(BACKBONES[numbers.arch][0])
    assert config.optim_wrapper.optimizer.lr == numbers.lr
    assert config.optim_wrapper.paramwise_cfg == dict(decay_rate=numbers.layer_decay)
    assert millions(build_model(config, 'meta')) == pytest.approx(
        in_millions(numbers.parameters), rel=0.01
    )


@of(CASCADE_AND_HTC)
def test_the_three_box_stages_have_the_published_target_stds(name):
    heads = load_config(f'det_configs/{name}.py').model.roi_head.bbox_head
    assert [head.bbox_coder.target_stds for head in heads] == CASCADE_TARGET_STDS


@of(UPERNET)
def test_an_upernet_config_has_the_numbers_of_its_release(name):
    numbers, config = UPERNET[name], load_config(f'seg_configs/{name}.py')
    model, backbone = config.model, config.model.backbone
    channels = list(BACKBONES[numbers.arch][0])
    assert (backbone.type, backbone.arch) == ('RevCol', numbers.arch)
    assert backbone.drop_path_rate == numbers.drop_path
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=numbers.weights)
    assert model.decode_head.in_channels == channels
    assert model.auxiliary_head.in_channels == channels[2]
    assert model.test_cfg == dict(
        mode='slide', crop_size=(numbers.crop,) * 2, stride=(numbers.stride,) * 2
    )
    assert model.data_preprocessor.size == (numbers.crop, numbers.crop)
    assert config.optim_wrapper.optimizer.lr == numbers.lr
    assert config.optim_wrapper.paramwise_cfg == dict(decay_rate=numbers.layer_decay)
    assert config.train_dataloader.batch_size == numbers.images_per_gpu
    assert config.auto_scale_lr.base_batch_size == 8 * numbers.images_per_gpu
    expected = numbers.parameters if numbers.arch != 'base' else '168.9M'
    assert millions(build_model(config, 'meta')) == pytest.approx(in_millions(expected), rel=0.01)


@of(REDNET_DETECTORS)
def test_a_rednet_detector_has_the_published_learning_rate_and_parameters(name):
    parameters, _, _, lr = REDNET_DETECTORS[name]
    config = load_config(f'det_configs/{name}.py')
    assert config.optim_wrapper.optimizer.lr == lr
    assert (config.train_cfg.max_epochs, config.auto_scale_lr.base_batch_size) == (12, 16)
    assert config.param_scheduler[1].milestones == [8, 11]
    assert millions(build_model(config, 'meta')) == pytest.approx(in_millions(parameters), rel=0.01)


@of(REDNET_SEGMENTORS)
def test_a_rednet_segmentor_synchronizes_all_norms_but_those_of_involutions_and_stem(name):
    backbone = build_model(load_config(f'seg_configs/{name}.py'), 'meta').backbone
    norms = {key: m for key, m in backbone.named_modules() if isinstance(m, _BatchNorm)}
    plain = {key for key in norms if key.startswith('stem.') or '.conv2.' in key}
    assert 0 < len(plain) < len(norms)
    for key, norm in norms.items():
        assert type(norm) is (nn.BatchNorm2d if key in plain else nn.SyncBatchNorm), key


def test_mask2former_with_revcol_h_is_as_large_as_published():
    _, parameters = HEADLINES['revcol_h_mask2former']
    config = load_config('seg_configs/revcol_h_mask2former.py')
    assert config.model.backbone.init_cfg.checkpoint == HUGE_WEIGHTS
    assert millions(build_model(config, 'meta')) == pytest.approx(in_millions(parameters), rel=0.02)


def test_the_metafiles_have_every_published_model_and_no_other():
    tables = (CASCADE, UPERNET, HEADLINES, REDNET_DETECTORS, REDNET_SEGMENTORS)
    named = {name for table in tables for name in table}
    assert {name for name, model in MODELS.items() if model.dataset != 'ImageNet-1K'} == named


@of(CASCADE)
def test_a_cascade_metafile_has_the_published_figures(name):
    numbers, model = CASCADE[name], MODELS[name]
    assert model.figures == {'box AP': numbers.box_ap, 'mask AP': numbers.mask_ap}
    assert size_of(model) == (numbers.parameters, numbers.flops)
    assert model.metadata['FLOPs Input'] == '1280 x 800'
    assert model.weights == f'{HUB}detection/{numbers.fine_tuned}'


@of(UPERNET)
def test_an_upernet_metafile_has_the_published_figures(name):
    numbers, model = UPERNET[name], MODELS[name]
    assert model.figures == {'mIoU': numbers.miou, 'mIoU(ms+flip)': numbers.miou_multi_scale}
    assert size_of(model) == (numbers.parameters, numbers.flops)
    assert model.metadata.get('Parameters Counted') == (
        '168.9M' if numbers.parameters == '122M' else None
    )
    if numbers.flops:
        sizes = {512: '2048 x 512', 640: '2560 x 640'}
        assert model.metadata['FLOPs Input'] == sizes[numbers.crop]
    assert model.weights == f'{HUB}segmentation/{numbers.fine_tuned}'


@of(HEADLINES)
def test_a_headline_metafile_has_the_published_figures(name):
    figures, parameters = HEADLINES[name]
    assert MODELS[name].figures == figures
    assert size_of(MODELS[name]) == (parameters, None)
    assert MODELS[name].weights is None


@of([*REDNET_DETECTORS, *REDNET_SEGMENTORS])
def test_a_rednet_metafile_has_the_published_figures(name):
    parameters, flops, figures, *_ = {**REDNET_DETECTORS, **REDNET_SEGMENTORS}[name]
    assert MODELS[name].figures == figures
    assert size_of(MODELS[name]) == (parameters, flops)
    assert MODELS[name].metadata['FLOPs Input'] == (
        '1280 x 800' if name in REDNET_DETECTORS else '2048 x 1024'
    )


@of(CLASSIFIERS)
def test_a_classifiers_metafile_has_the_published_figures(name):
    parameters, flops, top1 = CLASSIFIERS[name]
    model = next(m for m in MODELS.values() if is_classifier_of(m, name) and m.parameters)
    assert model.figures == {'top-1': top1}
    assert size_of(model) == (parameters, flops)
    if name.startswith('RevCol'):
        arch = model.metadata['Backbone Config']['arch']
        assert model.metadata['Backbone Parameters'] == f'{BACKBONES[arch][4]:,}'


@of(PRETRAINED_CLASSIFIERS)
def test_a_classifier_of_a_larger_pre_training_has_the_published_top_1(name):
    assert MODELS[name].figures == {'top-1': PRETRAINED_CLASSIFIERS[name]}


def is_classifier_of(model, backbone):
    return model.dataset == 'ImageNet-1K' and model.metadata['Backbone'] == backbone


def size_of(model):
    return model.metadata.get('Parameters'), model.metadata.get('FLOPs')


def in_millions(text):
    assert text.endswith('M')
    return float(text[:-1])

"""Counts by part: they add up to what is published, and every config of the project has them."""

from __future__ import annotations

import functools
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.analysis.flops import build_on_meta, count_by_part, model_multiply_adds
from tests.configs import ROOT, build_model, load_config
from tests.tiny_models import tiny_config, write_backbone
from tools.get_flops import main

# Every kind of backbone, neck and head, and the largest of each.
CONFIGS = (
    'det_configs/quickstart_cascade.py',
    'det_configs/rednet50_faster_rcnn_neck_head.py',
    'det_configs/rednet50_retinanet.py',
    'det_configs/revcol_h_cascade.py',
    'det_configs/revcol_h_dino.py',
    'det_configs/revcol_h_htc.py',
    'seg_configs/quickstart_upernet.py',
    'seg_configs/rednet50_fpn_neck.py',
    'seg_configs/revcol_h_mask2former.py',
    'seg_configs/revcol_h_upernet.py',
)


@pytest.fixture(autouse=True)
def _read_metafiles_once(monkeypatch):
    # mmengine reads all of a project's metafiles for every inherited file.
    monkeypatch.setattr('mmengine.config.utils.load', functools.cache(load))


def table(output: str) -> dict[str, tuple[float, float]]:
    """Millions of parameters and billions of multiply-adds by part."""
    rows = re.findall(r'^(\S+) +([\d.]+)M +([\d.]+)G', output, re.MULTILINE)
    return {name: (float(parameters), float(count)) for name, parameters, count in rows}


def test_a_detector_by_part_adds_up_to_the_published_figures(capsys):
    assert main([str(ROOT / 'det_configs/revcol_t_cascade.py'), '--shape', '800', '1280']) == 0
    output = capsys.readouterr().out
    found = table(output)
    parts = ['backbone', 'neck', 'rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head']
    assert list(found) == [*parts, 'all']
    assert found['all'] == (pytest.approx(88, rel=0.005), pytest.approx(741, rel=0.005))
    assert found['backbone'][0] == pytest.approx(29.94, abs=0.01)
    for column in (0, 1):
        assert sum(found[part][column] for part in parts) == pytest.approx(
            found['all'][column], abs=0.05
        )
    assert '1,000 proposals through each box stage, 100 through each mask stage' in output


def test_a_segmentor_counts_at_the_published_size_unless_told_otherwise(capsys):
    config = str(ROOT / 'seg_configs/revcol_t_upernet.py')
    assert main([config]) == 0
    published = capsys.readouterr().out
    assert 'one image of 512 x 2048' in published
    assert table(published)['all'] == (pytest.approx(60, rel=0.01), pytest.approx(937, rel=0.005))
    assert list(table(published)) == ['backbone', 'decode_head', 'auxiliary_head', 'all']
    assert main([config, '--shape', '512', '512']) == 0
    assert table(capsys.readouterr().out)['all'][1] == pytest.approx(937 / 4, rel=0.01)


def test_a_bare_backbone_is_one_part(tmp_path, capsys):
    config = write_backbone(tmp_path)
    assert main([str(config), '--shape', '64', '96']) == 0
    assert list(table(capsys.readouterr().out)) == ['backbone', 'all']


def test_the_semantic_branch_and_the_flow_between_mask_stages_are_counted():
    config = load_config('det_configs/revcol_t_htc.py')
    model = build_on_meta(config)
    counts = count_by_part(model, 128, 128)
    head = model.roi_head.semantic_head
    features = model.neck(model.backbone(torch.empty(1, 3, 128, 128, device='meta')))
    with FlopCounterMode(display=False) as counter:
        head(features)
    assert counts['roi_head.semantic_head'] == counter.get_total_flops() // 2
    # Two 1x1 convolutions of 256 channels on 100 regions of 14 x 14 carry features on.
    for stage in model.roi_head.mask_head:
        stage.with_conv_res = False
    apart = count_by_part(model, 128, 128)
    difference = counts['roi_head.mask_head'] - apart['roi_head.mask_head']
    assert difference == 2 * 100 * 14 * 14 * 256 * 256


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('det_configs/revcol_t_dino.py', {'encoder', 'decoder', 'bbox_head', 'other'}),
        ('seg_configs/revcol_t_mask2former.py', {'decode_head'}),
    ],
)
def test_a_transformer_counts_what_a_real_forward_pass_counts(name, parts, tmp_path, capsys):
    config = tiny_config(name)
    path = tmp_path / 'config.py'
    config.dump(path)
    assert main([str(path), '--shape', '128', '160']) == 0
    output = capsys.readouterr().out
    found = table(output)
    assert parts <= found.keys()
    assert 'nothing is published to compare with' in output
    assert 'Left out: the sampling of the deformable attention' in output
    assert found['all'][1] == pytest.approx(real_count(config) / 1e9, abs=0.006)


def real_count(config: Config) -> int:
    """Multiply-adds of the whole model with weights, in its own forward pass."""
    from mmdet.structures import DetDataSample
    from mmseg.structures import SegDataSample

    model = build_model(config).eval()
    sample = DetDataSample if config.default_scope == 'mmdet' else SegDataSample
    size = (128, 160)
    meta = dict(img_shape=size, batch_input_shape=size, pad_shape=size, ori_shape=size)
    samples = [sample(metainfo=meta)]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            if config.default_scope == 'mmdet':
                model(torch.randn(1, 3, *size), samples, mode='tensor')
            else:
                model.decode_head(model.extract_feat(torch.randn(1, 3, *size)), samples)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops() // 2


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_every_kind_of_config_is_counted(name, capsys):
    # Large enough for all queries of a transformer.
    assert main([str(ROOT / name), '--shape', '256', '256']) == 0
    found = table(capsys.readouterr().out)
    assert found['all'][0] > 1
    assert 0 < found['backbone'][1] < found['all'][1]


def test_the_sum_is_what_verifies_the_published_figures():
    model = build_on_meta(load_config('det_configs/rednet50_retinanet.py'))
    counts = count_by_part(model, 256, 256)
    assert list(counts) == ['backbone', 'neck', 'bbox_head']
    assert model_multiply_adds(model, 256, 256) == sum(counts.values())


@pytest.mark.parametrize(
    ('name', 'shape', 'words'),
    [
        ('missing.py', (64, 64), 'missing.py is not a file; give a config'),
        ('no_model.py', (64, 64), 'no_model.py has no `model`'),
        ('broken.py', (64, 64), r'broken.py could not be read as a config \('),
        ('backbone.py', (16, 64), 'image of 16 x 64 pixels; .* must be at least 32'),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(name, shape, words, tmp_path, capsys):
    write_backbone(tmp_path)
    (tmp_path / 'no_model.py').write_text('a = 1\n')
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    assert main([str(tmp_path / name), '--shape', *map(str, shape)]) == 1
    assert re.search(f'error: .*{words}', capsys.readouterr().err)


def test_a_bare_backbone_of_another_kind_is_counted_too(tmp_path, capsys):
    config = tmp_path / 'resnet.py'
    imports = "custom_imports = dict(imports=['revcol_backbone', 'mmdet.models'])"
    config.write_text(f"{imports}\nmodel = dict(type='mmdet.ResNet', depth=50)\n")
    assert main([str(config)]) == 0
    output = capsys.readouterr().out
    assert 'one image of 224 x 224' in output
    # ResNet-50 has 25.6 million parameters and 4.1 billion multiply-adds with its classifier.
    assert table(output)['all'] == (
        pytest.approx(25.6 - 2.05, abs=0.05),
        pytest.approx(4.1, abs=0.1),
    )

"""The export tool, run as a user runs it: what it writes is loaded and used without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from mmengine.registry import DefaultScope

from revcol_backbone.engine.building import build_model
from revcol_backbone.export import TOLERANCES, load_onnx
from revcol_backbone.inference.loading import read_config
from tests.tiny_models import write_trained_model
from tests.tiny_runs import tiny_detector, tiny_segmentor
from tests.tools.commands import error_of
from tools.export import main

TOOL = Path(__file__).parents[2] / 'tools/export.py'
SHAPE = ('--shape', '64', '96')
MEAN = [123.675, 116.28, 103.53]


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory):
    folder = tmp_path_factory.mktemp('segmentor')
    return write_trained_model(tiny_segmentor('revcol_t_upernet', folder), folder)


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp('detector')
    return write_trained_model(tiny_detector('revcol_t_cascade', folder), folder)


def run_tool(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.mark.slow
def test_a_segmentor_of_onnxruntime_segments_as_the_config_does(segmentor, tmp_path, capsys):
    out = tmp_path / 'new' / 'segmentor.onnx'
    run_tool(*segmentor, '--part', 'segmentor', '--out', out, *SHAPE)
    assert list(out.parent.iterdir()) == [out]
    printed = capsys.readouterr().out
    assert '2 x 3 x 97 x 131: largest relative error' in printed

    session = onnxruntime.InferenceSession(out)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata['mean']) == pytest.approx(MEAN)
    assert json.loads(metadata['channel_order']) == 'RGB'
    assert json.loads(metadata['classes'])[:2] == ['wall', 'building']

    model = build_model(read_config(segmentor[0]), segmentor[1])
    pixels = torch.randint(0, 256, (3, 75, 101), dtype=torch.uint8)
    own = model.test_step({'inputs': [pixels], 'data_samples': None})[0].seg_logits.data
    run = load_onnx(out)
    model.encode_decode = lambda inputs, batch_img_metas: run(inputs)[0]
    theirs = model.test_step({'inputs': [pixels], 'data_samples': None})[0].seg_logits.data
    torch.testing.assert_close(theirs, own, rtol=1e-4, atol=1e-4 * own.abs().max().item())


@pytest.mark.slow
def test_a_torch_export_file_needs_nothing_but_torch(segmentor, tmp_path):
    out = tmp_path / 'segmentor.pt2'
    options = ['--format', 'torch-export', '--part', 'segmentor', '--out', str(out), *SHAPE]
    subprocess.run([sys.executable, TOOL, *segmentor, *options], cwd=tmp_path, check=True)
    code = (
        'import sys, torch; files = {"classes": ""}\n'
        f'module = torch.export.load({str(out)!r}, extra_files=files).module()\n'
        'print(tuple(module(torch.zeros(3, 3, 71, 130)).shape), files["classes"][:7])\n'
        'assert not {"revcol_backbone", "mmseg"} & set(sys.modules)\n'
    )
    printed = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, text=True, capture_output=True, check=True
    ).stdout
    assert printed == '(3, 150, 71, 130) ["wall"\n'


@pytest.mark.slow
def test_a_detector_finds_the_same_with_the_features_of_onnxruntime(detector, tmp_path, capsys):
    out = tmp_path / 'detector.onnx'
    run_tool(*detector, '--part', 'detector', '--out', out, *SHAPE, '--no-deploy')
    printed = capsys.readouterr().out
    assert 'NMS, RoIAlign' in printed
    assert 'Not exported: rpn_head (RPNHead), roi_head (CascadeRoIHead)' in printed

    config = read_config(detector[0])
    model = build_model(config, detector[1])
    run = load_onnx(out)
    pixels = torch.randint(0, 256, (3, 75, 101), dtype=torch.uint8)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        own = detect(model, pixels)
        model.extract_feat = lambda inputs: tuple(run(inputs))
        theirs = detect(model, pixels)
    assert len(own) > 0
    torch.testing.assert_close(theirs.scores, own.scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(theirs.bboxes, own.bboxes, rtol=1e-3, atol=1e-2)


def detect(model, pixels):
    from mmdet.structures import DetDataSample

    size = tuple(pixels.shape[1:])
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    model.test_cfg.rcnn.score_thr = 0.0
    data = {'inputs': [pixels], 'data_samples': [DetDataSample(metainfo=meta)]}
    return model.test_step(data)[0].pred_instances


def test_a_backbone_takes_a_pre_training_checkpoint_in_half_precision(detector, tmp_path, capsys):
    weights = torch.load(detector[1])['state_dict']
    backbone = {
        f'module.{key.removeprefix("backbone.")}': value
        for key, value in weights.items()
        if key.startswith('backbone.')
    }
    checkpoint, out = tmp_path / 'pretrained.pth', tmp_path / 'backbone.pt2'
    torch.save({'model': {**backbone, 'module.cls.weight': torch.zeros(2)}}, checkpoint)
    options = ('--format', 'torch-export', '--dtype', 'bfloat16', '--static')
    run_tool(detector[0], checkpoint, '--part', 'backbone', '--out', out, *SHAPE, *options)
    levels = torch.export.load(out).module()(torch.zeros(1, 3, 64, 96, dtype=torch.bfloat16))
    assert [tuple(level.shape) for level in levels] == [
        (1, 8, 16, 24),
        (1, 16, 8, 12),
        (1, 24, 4, 6),
        (1, 32, 2, 3),
    ]
    assert '1 x 3 x 64 x 96: largest relative error' in capsys.readouterr().out


def test_a_file_that_differs_from_pytorch_is_not_left_behind(segmentor, tmp_path, monkeypatch):
    monkeypatch.setitem(TOLERANCES, torch.bfloat16, 1e-9)
    options = ('--format', 'torch-export', '--dtype', 'bfloat16', '--static', *SHAPE)
    message = error_of(
        main, *segmentor, '--part', 'backbone', '--out', tmp_path / 'a.pt2', *options
    )
    assert 'The exported graph differs from PyTorch by' in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('CONFIG', '--out', 'a.onnx'), 'either a CHECKPOINT or --random-weights'),
        (('CONFIG', 'CHECKPOINT', '--random-weights', '--out', 'a.onnx'), 'either a CHECKPOINT'),
        (('CONFIG', 'CHECKPOINT', '--out', 'a.pt2'), 'a.pt2 must end in .onnx for --format onnx'),
        (('CONFIG', 'CHECKPOINT', '--out', 'there.onnx'), 'there.onnx exists; .*--overwrite'),
        (('CONFIG', 'missing.pth', '--out', 'a.onnx'), 'missing.pth is not a file'),
        (('missing.py', 'CHECKPOINT', '--out', 'a.onnx'), 'missing.py is not a file'),
        (('CONFIG', 'OTHER', '--out', 'a.onnx'), 'does not fit the model .*nothing was loaded'),
        (('CONFIG', 'CHECKPOINT', '--out', 'a.onnx', '--dtype', 'bfloat16'), 'could not be check'),
        (('CONFIG', 'CHECKPOINT', '--out', 'a.onnx', '--opset', '13'), 'give 18 or more'),
        (('CONFIG', 'CHECKPOINT', '--out', 'a.onnx', '--shape', '32', '64'), '32 x 64 is too'),
        (('CONFIG', 'CHECKPOINT', '--out', 'a.onnx', '--part', 'detector'), 'is not a detector'),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(
    options, message, segmentor, detector, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    there = tmp_path / 'there.onnx'
    there.write_text('mine')
    files = {'CONFIG': segmentor[0], 'CHECKPOINT': segmentor[1], 'OTHER': detector[1]}
    found = error_of(main, '--part', 'segmentor', *SHAPE, *(files.get(o, o) for o in options))
    assert pytest.raises(ValueError, match=message).matches(ValueError(found)), found
    assert '\n' not in found
    assert list(tmp_path.iterdir()) == [there]
    assert there.read_text() == 'mine'

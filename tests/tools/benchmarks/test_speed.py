"""The speed benchmark: what it runs, in which order, and what it reports; never how fast."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from revcol_backbone import RevCol
from revcol_backbone.column import Column
from revcol_backbone.engine.building import build_model, read_model_config
from tests.tiny_models import CASCADE, UPERNET, write_backbone, write_config
from tools.benchmarks import speed as benchmark_speed
from tools.benchmarks.speed import choose_networks, main, parse_arguments, prepare

FAST = ['--shape', '64', '96', '--rounds', '2', '--warmup', '1', '--device', 'cpu']


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    return write_backbone(tmp_path)


def networks(*arguments: object) -> list[str]:
    return [str(network) for network in choose_networks(parse_arguments([*map(str, arguments)]))]


def outputs(*arguments: object) -> list:
    """What each network of a command line gives, on the same weights."""
    args = parse_arguments([*map(str, arguments), *FAST])
    results = []
    for network in choose_networks(args):
        torch.manual_seed(0)
        results.append(prepare(network, args, torch.device('cpu'))())
    return results


def test_one_network_is_reported_with_its_spread(backbone, tmp_path, capsys):
    out = tmp_path / 'new' / 'speed.json'
    assert main([str(backbone), *FAST, '--batch-size', '2', '--out', str(out)]) == 0
    result = json.loads(out.read_text())
    (network,) = result['networks']
    assert len(network['seconds']) == 2
    latency, speed = network['latency_ms'], network['images_per_second']
    assert 0 < latency['low'] <= latency['median'] <= latency['high']
    assert latency['median'] == pytest.approx(sum(network['seconds']) / 2 * 1e3)
    assert speed['low'] <= speed['median'] <= speed['high']
    speeds = [2 / second for second in network['seconds']]
    assert speed['high'] == pytest.approx(np.percentile(speeds, 90))
    assert 'ratio' not in result
    assert result['settings']['shape'] == [64, 96]
    assert result['settings']['batch_size'] == 2
    assert list(out.parent.iterdir()) == [out]
    printed = capsys.readouterr().out
    assert '2 x 3 x 64 x 96, cpu' in printed
    assert re.search(r'backbone, float32  [\d.]+ \[[\d.]+, [\d.]+\] ms', printed)


def test_two_networks_take_turns_and_the_ratio_is_of_each_round(
    backbone, tmp_path, capsys, monkeypatch
):
    order = []

    def record(network, args, device):
        return lambda: order.append(network.dtype)

    monkeypatch.setattr(benchmark_speed, 'prepare', record)
    out = tmp_path / 'speed.json'
    command = [str(backbone), *FAST, '--compare-dtype', 'bfloat16', '--out', str(out)]
    assert main(command) == 0
    assert order == ['float32', 'bfloat16'] * 3
    result = json.loads(out.read_text())
    first, second = (network['seconds'] for network in result['networks'])
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    assert result['ratio']['median'] == pytest.approx(np.median(ratios))
    assert 'first / second' in capsys.readouterr().out


def test_the_second_network_is_the_first_with_what_is_changed(tmp_path):
    assert networks('a.py') == ['a, float32']
    assert networks('a.py', '--compare', 'b.py') == ['a, float32', 'b, float32']
    assert networks('a.py', '--compare-deploy') == ['a, float32', 'a, float32, deploy']
    assert networks('a.py', '--deploy', '--compare-compile') == [
        *('a, float32, deploy', 'a, float32, deploy, compile'),
    ]
    assert networks('a.py', '--deploy', '--compare-native') == [
        *('a, float32, deploy', 'a, float32, deploy, native'),
    ]
    assert networks('a.py', '--deploy', '--no-compare-deploy') == [
        *('a, float32, deploy', 'a, float32'),
    ]
    assert networks('a.py', '--dtype', 'bfloat16', '--compare', 'b.py', '--compare-deploy') == [
        *('a, bfloat16', 'b, bfloat16, deploy'),
    ]
    assert networks('a.py', '--channels-last', '--compare-dtype', 'float16') == [
        *('a, float32, channels_last', 'a, float16, channels_last'),
    ]


def test_another_config_does_not_get_the_checkpoint_of_the_first():
    args = parse_arguments(['a.py', '--checkpoint', 'a.pth', '--compare', 'b.py'])
    assert [network.checkpoint for network in choose_networks(args)] == [Path('a.pth'), None]
    args = parse_arguments(['a.py', '--checkpoint', 'a.pth', '--compare-deploy'])
    assert [network.checkpoint for network in choose_networks(args)] == [Path('a.pth')] * 2


def test_every_kind_of_backbone_computes_the_same(backbone):
    plain, deployed = outputs(backbone, '--compare-deploy')
    for one, other in zip(plain, deployed, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    _, mixed = outputs(backbone, '--compare-dtype', 'bfloat16')
    for one, other in zip(plain, mixed, strict=True):
        assert not torch.equal(one, other.float())
        torch.testing.assert_close(one, other.float(), rtol=0.1, atol=0.1)
    _, strided = outputs(backbone, '--compare-channels-last')
    assert strided[0].is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(plain, strided, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_deploying_leaves_no_column_of_the_trained_kind(backbone):
    model = build_model(read_model_config(backbone))
    benchmark_speed.deploy(model, backbone)
    assert isinstance(model, RevCol)
    assert not any(isinstance(module, Column) for module in model.modules())


def test_a_compiled_backbone_computes_the_same(backbone, monkeypatch):
    captured = []

    def keep_graph(graph, _):
        captured.append(graph)
        return graph.forward

    # The default backend needs a C++ compiler and minutes.
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, 'compile', lambda m: compile_module(m, backend=keep_graph))
    plain, compiled = outputs(backbone, '--compare-compile')
    assert captured
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(one, other)


def test_of_a_detector_the_backbone_and_the_neck_are_compiled(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, 'compile', lambda module: compiled.append(type(module)))
    args = parse_arguments(
        [str(write_config(CASCADE, tmp_path / 'detector.py')), *FAST, '--compile']
    )
    prepare(*choose_networks(args), args, torch.device('cpu'))
    assert [kind.__name__ for kind in compiled] == ['RevCol', 'FPN']


def test_a_whole_segmentor_is_compared_with_its_backbone(tmp_path):
    config = write_config(UPERNET, tmp_path / 'segmentor.py')
    (results,) = outputs(config, '--batch-size', '2')
    assert [result.pred_sem_seg.data.shape for result in results] == [(1, 64, 96)] * 2
    (levels,) = outputs(config, '--backbone-only')
    assert [level.shape[-2:] for level in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_a_whole_detector_runs_to_its_boxes_from_a_checkpoint_and_an_image(tmp_path):
    config, checkpoint = write_config(CASCADE, tmp_path / 'detector.py'), tmp_path / 'trained.pth'
    image = tmp_path / 'image.png'
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8))
    model = build_model(read_model_config(config))
    torch.save({'state_dict': model.state_dict()}, checkpoint)
    (results,) = outputs(config, '--checkpoint', checkpoint, '--image', image)
    assert 'masks' in results[0].pred_instances
    (_, mixed) = outputs(config, '--compare-dtype', 'bfloat16', '--image', image)
    assert 'bboxes' in mixed[0].pred_instances


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--compare-dtype', 'float32'], 'Both networks are backbone, float32; let a --compare'),
        (['--checkpoint', 'missing.pth'], 'missing.pth is not a file; give the checkpoint'),
        (['--image', 'missing.png'], 'missing.png cannot be read'),
        (['--compare', 'missing.py'], 'missing.py is not a file; give a config'),
        (['--device', 'abacus'], "device 'abacus' cannot be used"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(arguments, words, backbone, capsys):
    assert main([str(backbone), *FAST, *arguments]) == 1
    assert f'error: {words}' in capsys.readouterr().err


def test_a_network_that_cannot_be_deployed_is_named(tmp_path, capsys):
    config = tmp_path / 'resnet.py'
    imports = "custom_imports = dict(imports=['revcol_backbone', 'mmdet.models'])"
    config.write_text(f"{imports}\nmodel = dict(type='mmdet.ResNet', depth=18)\n")
    assert main([str(config), *FAST, '--compare-deploy']) == 1
    assert 'resnet.py has no RevCol, so there is nothing to deploy' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--rounds', '--batch-size', '--threads'])
def test_a_number_below_one_is_an_error(option, backbone, capsys):
    with pytest.raises(SystemExit):
        main([str(backbone), option, '0'])
    assert "'0' is not allowed; give a positive integer" in capsys.readouterr().err

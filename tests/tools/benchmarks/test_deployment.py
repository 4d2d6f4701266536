"""The comparison of a segmentor's forms, run as a user runs it on a small model and data set."""

from __future__ import annotations

import json

import pytest

from tests.tiny_models import write_trained_model
from tests.tiny_runs import tiny_segmentor
from tests.tools.commands import error_of
from tools.benchmarks.deployment import main

FORMS = [
    'PyTorch float32',
    'PyTorch float32, deployed',
    'PyTorch bfloat16, deployed',
    'onnxruntime float32',
    'onnxruntime int8',
]


@pytest.mark.slow
def test_every_form_is_evaluated_and_timed(tmp_path, capsys):
    config, checkpoint = write_trained_model(tiny_segmentor('revcol_t_upernet', tmp_path), tmp_path)
    out = tmp_path / 'out' / 'deployment.json'
    options = ['--rounds', '2', '--threads', '1', '--calibration-images', '2']
    main([str(config), str(checkpoint), *options, '--out', str(out)])

    rows = json.loads(out.read_text())['results']
    assert [row['form'] for row in rows] == FORMS
    float32, deployed, bfloat16, onnx, int8 = rows
    assert deployed['miou'] == pytest.approx(float32['miou'], abs=0.1)
    assert onnx['miou'] == pytest.approx(float32['miou'], abs=0.1)
    assert all(0 <= row['miou'] <= 100 for row in (bfloat16, int8))
    assert int8['megabytes'] < onnx['megabytes'] / 2
    assert float32['speedup']['median'] == 1
    assert all(row['milliseconds']['low'] > 0 for row in rows)
    printed = capsys.readouterr().out.splitlines()
    cells = [line.split(' | ')[0] for line in printed if line.startswith('| ')]
    assert cells == [f'| {name}' for name in ('form', *FORMS)]


def test_a_detector_is_refused(tmp_path):
    config = 'det_configs/quickstart_cascade.py'
    error = error_of(main, config, tmp_path / 'checkpoint.pth')
    assert f'{config} is the config of a detector' in error

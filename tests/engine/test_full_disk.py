"""A full disk ends a command in one sentence and leaves the files before it whole.

A limit on the size of files stands for the disk: both make a write fail half-way.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from revcol_backbone.checkpoints.reading import read_checkpoint
from tests.configs import ROOT
from tests.engine.tiny_training import ARCH, make_config, train
from tests.tiny_models import CASCADE, write_config

LIMIT = 100_000  # bytes, less than a checkpoint and more than a log


def run_with_little_space(*command: object, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *map(str, command)],
        cwd=cwd,
        text=True,
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
    )


@pytest.mark.slow
def test_training_ends_in_one_sentence_and_its_checkpoints_are_whole(tmp_path):
    config = make_config(tmp_path / 'work', True, 1)
    train(config)
    config.train_cfg.max_epochs = 2
    config.update(resume=True, custom_imports=dict(imports=['tests.engine.tiny_training']))
    config.dump(tmp_path / 'config.py')
    program = (
        'import sys; sys.path.insert(0, sys.argv[1]);'
        'from mmengine.config import Config; from mmengine.runner import Runner;'
        'Runner.from_cfg(Config.fromfile("config.py")).train()'
    )
    result = run_with_little_space('-c', program, ROOT, cwd=tmp_path)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f'error: {tmp_path / "work/epoch_2.pth"} could not be written (')
    assert 'Traceback' not in result.stderr
    names = sorted(path.name for path in (tmp_path / 'work').glob('*_*') if path.is_file())
    assert [name for name in names if 'epoch' in name or 'last' in name] == [
        'epoch_1.pth',
        'last_checkpoint',
    ]
    read_checkpoint(tmp_path / 'work/epoch_1.pth')
    assert (tmp_path / 'work/last_checkpoint').read_text().endswith('epoch_1.pth')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_conversion_ends_in_one_sentence(tmp_path, suffix):
    from revcol_backbone import RevCol

    torch.save(RevCol(ARCH | dict(columns=12)).state_dict(), tmp_path / 'in.pth')
    assert (tmp_path / 'in.pth').stat().st_size > 2 * LIMIT
    tool = ROOT / 'tools/convert_checkpoint.py'
    result = run_with_little_space(tool, 'in.pth', f'out{suffix}', cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, f'error: out{suffix}: File too large\n')
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'name'), [('onnx', 'out.onnx'), ('torch-export', 'out.pt2')])
def test_an_export_ends_in_one_sentence(tmp_path, kind, name):
    config, out = write_config(CASCADE, tmp_path / 'config.py'), tmp_path / 'out'
    out.mkdir()
    (out / name).write_text('the one before')
    options = ['--random-weights', '--part', 'backbone', '--static', '--shape', '32', '32']
    options += ['--format', kind, '--out', out / name, '--overwrite']
    result = run_with_little_space(ROOT / 'tools/export.py', config, *options, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    (error,) = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
    assert error.endswith('File too large')
    assert 'Traceback' not in result.stderr
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == 'the one before'

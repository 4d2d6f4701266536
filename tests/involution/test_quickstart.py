"""Involutions train on the quickstart's data set through mim, for detection and segmentation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.configs import ROOT, mim

STEPS = 12
# The quickstart warms up for longer than these few steps.
COMMON = ('param_scheduler=None', 'default_hooks.logger.interval=1', 'log_processor.window_size=1')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a small copy of the quickstart's data set."""
    folder = tmp_path_factory.mktemp('quickstart')
    command = [sys.executable, ROOT / 'tools/make_digits_dataset.py', '--out', 'data/digits']
    command += ['--train', 4 * STEPS // 3, '--val', 1, '--size', 128]
    subprocess.run(list(map(str, command)), cwd=folder, check=True, capture_output=True)
    return folder


def losses_of(folder: Path, package: str, config: str, *options: str) -> list[float]:
    """Train and read what mmengine logged at every step."""
    work_dir = folder / package
    mim(
        *('train', package, ROOT / config, '--work-dir', work_dir),
        *('--cfg-options', *COMMON, *options),
        cwd=folder,
    )
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    return [line['loss'] for line in lines if 'loss' in line]


@pytest.mark.slow
def test_a_detector_of_involutions_learns(folder):
    losses = losses_of(
        *(folder, 'mmdet', 'det_configs/rednet26_quickstart.py', 'train_cfg.max_epochs=3'),
        *('test_cfg=None', 'test_dataloader=None', 'test_evaluator=None'),
    )
    assert len(losses) == STEPS
    assert sum(losses[-3:]) / 3 < 0.9 * losses[0], losses


@pytest.mark.slow
def test_a_segmentor_of_involutions_learns(folder):
    losses = losses_of(
        *(folder, 'mmseg', 'seg_configs/rednet26_quickstart.py'),
        *(f'train_cfg.max_iters={STEPS}', f'train_cfg.val_interval={2 * STEPS}'),
        'train_dataloader.batch_size=4',
    )
    assert len(losses) == STEPS
    assert sum(losses[-3:]) / 3 < 0.9 * losses[0], losses

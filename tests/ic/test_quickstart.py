"""IC-ResNet-18 trains on the quickstart's data set through mim, for both libraries."""

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
OPTIONS = {
    'mmdet': ('train_cfg.max_epochs=3',),
    'mmseg': (
        f'train_cfg.max_iters={STEPS}',
        f'train_cfg.val_interval={2 * STEPS}',
        'train_dataloader.batch_size=4',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('package', OPTIONS)
def test_a_model_of_collision_units_learns(package, tmp_path):
    command = [sys.executable, ROOT / 'tools/make_digits_dataset.py', '--out', 'data/digits']
    command += ['--train', 4 * STEPS // 3, '--val', 1, '--size', 128]
    subprocess.run(list(map(str, command)), cwd=tmp_path, check=True, capture_output=True)
    config = ROOT / f'{package.removeprefix("mm")}_configs/ic_resnet18_quickstart.py'
    options = (*COMMON, *OPTIONS[package], 'test_cfg=None', 'test_dataloader=None')
    mim(
        *('train', package, config, '--work-dir', tmp_path / 'work'),
        *('--cfg-options', *options, 'test_evaluator=None'),
        cwd=tmp_path,
    )
    (scalars,) = Path(tmp_path, 'work').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == STEPS
    assert sum(losses[-3:]) / 3 < 0.9 * losses[0], losses

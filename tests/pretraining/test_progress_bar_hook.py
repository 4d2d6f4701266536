"""The bar is for terminals, and shows epoch, steps, speed, loss and the time left."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from mmengine.runner import Runner

from tests.pretraining.tiny_runs import tiny_classifier


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize('stream', [Terminal(), io.StringIO()])
def test_a_bar_follows_the_training_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO
) -> None:
    monkeypatch.setenv('TERM', 'xterm-256color')
    monkeypatch.setenv('COLUMNS', '120')
    monkeypatch.setattr(sys, 'stderr', stream)
    config = tiny_classifier('revcol_t_in1k', tmp_path)
    config.custom_hooks = [dict(type='ProgressBarHook')]
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.experiment_name = tmp_path.name
    Runner.from_cfg(config).train()
    shown = stream.getvalue()
    if stream.isatty():
        assert 'epoch 2/2' in shown
        assert '6/6' in shown
        assert 'images/s, loss' in shown
        assert '0:00:00' in shown
    else:
        assert 'images/s' not in shown

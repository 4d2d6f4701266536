"""These tests run where Detectron2 is installed: `bash tools/test_detectron2.sh` brings it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.configs import ROOT
from tests.integrations.detectron2.digits import make_digits

DETECTRON2 = importlib.util.find_spec('detectron2')
if DETECTRON2 is None:
    collect_ignore_glob = ['test_*.py']


@pytest.fixture
def small_arch() -> dict:
    """A network of two columns that runs in milliseconds."""
    return {'channels': (8, 16, 24, 32), 'layers': (1, 1, 2, 1), 'columns': 2}


@pytest.fixture(scope='session')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's data set in small, for the quickstart's configs: two images of 64 pixels."""
    folder = tmp_path_factory.mktemp('digits') / 'data'
    make_digits(folder, images=2)
    os.environ['DIGITS'] = str(folder)
    return folder


@pytest.fixture(scope='session')
def trainers() -> Path:
    """The folder of Detectron2's training scripts, which is `tools` in its repository."""
    return Path(DETECTRON2.origin).parents[1] / 'trainers'


@pytest.fixture
def run_trainer(digits: Path, trainers: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run Detectron2's own script for LazyConfigs on CPUs, and return what it printed."""

    def run(
        config: str,
        folder: Path,
        settings: Sequence[str] = (),
        flags: Sequence[str] = (),
        processes: int = 0,
        fails: bool = False,
    ) -> subprocess.CompletedProcess:
        command = [
            *(sys.executable, str(trainers / 'lazyconfig_train_net.py'), *flags),
            *('--config-file', str(ROOT / config), '--num-gpus', str(processes)),
            *('--dist-url', 'auto', f'train.output_dir={folder}', *settings),
        ]
        done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True)
        assert (done.returncode != 0) == fails, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    return run

"""The quickstart's shell script, with stand-ins for the commands that it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60
# One of the two fails at once; the other would outlast the test.
MIM = """#!/usr/bin/env bash
if [ "$2" = "$FAILS" ]; then
    echo 'FileExistsError: the reason'
    exit 1
fi
echo $$ > other_process
exec sleep 600
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which ``tools/quickstart.sh`` runs, without an environment or a data set."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'data' / 'digits').mkdir(parents=True)
    (tmp_path / 'data' / 'digits' / 'dataset.json').write_text('{}')
    (tmp_path / 'det_configs').mkdir()
    (tmp_path / 'det_configs' / 'quickstart_cascade.py').touch()
    (tmp_path / 'seg_configs').mkdir()
    (tmp_path / 'seg_configs' / 'quickstart_upernet.py').touch()
    shutil.copy(ROOT / 'tools' / 'quickstart.sh', tmp_path / 'tools')
    (tmp_path / 'tools' / 'environment.sh').write_text(
        'stop() { echo "error: $*" >&2; exit 1; }\nPATH=$PWD/bin:$PATH\n'
    )
    (tmp_path / 'tools' / 'make_digits_dataset.py').touch()
    (tmp_path / 'tools' / 'check_dataset.py').touch()
    (tmp_path / 'bin' / 'mim').write_text(MIM)
    (tmp_path / 'bin' / 'mim').chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(('package', 'name'), [('mmdet', 'cascade'), ('mmseg', 'upernet')])
def test_when_one_training_fails_the_other_ends_and_the_reason_is_shown(
    checkout: Path, package: str, name: str
) -> None:
    result = subprocess.run(
        ['bash', 'tools/quickstart.sh'],
        cwd=checkout,
        env=os.environ | {'FAILS': package},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 1
    *log, error = result.stderr.splitlines()
    assert 'FileExistsError: the reason' in log
    assert error.startswith(f'error: training or testing {name} failed')
    assert f'work_dirs/quickstart/{name}.log' in error
    other = int((checkout / 'other_process').read_text())
    deadline = time.monotonic() + SECONDS
    while is_running(other):
        assert time.monotonic() < deadline, 'the other training still runs'
        time.sleep(0.1)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_training_from_another_config_is_not_resumed(checkout: Path) -> None:
    (checkout / 'work_dirs' / 'quickstart' / 'upernet').mkdir(parents=True)
    (checkout / 'work_dirs' / 'quickstart' / 'upernet' / 'made_from').write_text('another')
    result = subprocess.run(
        ['bash', 'tools/quickstart.sh'],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 1
    assert 'work_dirs/quickstart/upernet was trained with another version' in result.stderr
    assert not (checkout / 'other_process').exists()

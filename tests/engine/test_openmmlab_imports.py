"""The corrections to openmim and mmengine, in interpreters that start afresh."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from revcol_backbone.engine import openmmlab_imports

ROOT = Path(__file__).parents[2]
# Runs at the start of both processes: neither creates openmim's cache folder before the other is
# about to, as happens when two start together on a machine where openmim has never run.
MEETING = """
import os, pathlib, sys, time
create = os.makedirs
def meet_and_create(name, *args, **kwargs):
    if str(name).endswith(os.path.join('.cache', 'mim')):
        meeting = pathlib.Path({meeting!r})
        (meeting / str(os.getpid())).touch()
        while len(list(meeting.iterdir())) < 2:
            time.sleep(0.01)
    return create(name, *args, **kwargs)
os.makedirs = meet_and_create
# What this environment has installed for every interpreter is not what is tested.
sys.meta_path[:] = [finder for finder in sys.meta_path if not hasattr(finder, 'observer')]
"""
ENABLE = """
import runpy
runpy.run_path({file!r})['enable']()
"""


def import_mim_twice_at_once(folder: Path, startup: str) -> list[tuple[int, str]]:
    """Import mim in two processes with one new home; returns exit statuses and errors."""
    for name in ('home', 'meeting', 'startup'):
        (folder / name).mkdir()
    (folder / 'startup' / 'sitecustomize.py').write_text(
        (MEETING + startup).format(meeting=str(folder / 'meeting'), file=openmmlab_imports.__file__)
    )
    environment = os.environ | {'HOME': str(folder / 'home'), 'PYTHONPATH': str(folder / 'startup')}
    processes = [
        subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', 'import mim'],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def test_without_the_correction_one_of_two_first_imports_of_mim_fails(tmp_path: Path) -> None:
    results = import_mim_twice_at_once(tmp_path, startup='')
    assert sorted(status for status, _ in results) == [0, 1]
    (error,) = [error for status, error in results if status]
    assert 'FileExistsError' in error


def test_with_it_two_first_imports_of_mim_both_succeed(tmp_path: Path) -> None:
    results = import_mim_twice_at_once(tmp_path, startup=ENABLE)
    assert [status for status, _ in results] == [0, 0], results
    assert len(list((tmp_path / 'meeting').iterdir())) == 2
    assert (tmp_path / 'home' / '.cache' / 'mim').is_dir()


def test_a_config_inherits_from_one_of_this_package_by_its_name(tmp_path: Path) -> None:
    openmmlab_imports.enable()
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'revcol_backbone::det_configs/revcol_t_cascade.py'\n"
        'model = dict(backbone=dict(anchor_every=2))\n'
        'optim_wrapper = dict(optimizer=dict(lr=_base_.optim_wrapper.optimizer.lr / 2))\n'
    )
    mine = Config.fromfile(tmp_path / 'mine.py')
    published = Config.fromfile(ROOT / 'det_configs' / 'revcol_t_cascade.py')
    published.merge_from_dict(
        {
            'model.backbone.anchor_every': 2,
            'optim_wrapper.optimizer.lr': published.optim_wrapper.optimizer.lr / 2,
        }
    )
    assert mine.to_dict() == published.to_dict()


def test_a_config_that_does_not_exist_is_told_by_its_name(tmp_path: Path) -> None:
    openmmlab_imports.enable()
    (tmp_path / 'mine.py').write_text("_base_ = 'revcol_backbone::det_configs/missing.py'\n")
    with pytest.raises(FileNotFoundError, match='revcol_backbone::det_configs/missing.py'):
        Config.fromfile(tmp_path / 'mine.py')

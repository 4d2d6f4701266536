"""What a bug report needs: the versions, devices and files in use, and whether they work."""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from revcol_backbone.mmcv_ops import status
from revcol_backbone.model_zoo import INSTALLED, find_config
from revcol_backbone.version import __version__

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
# Each library under its original and its maintained distribution.
LIBRARIES = {
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
    'mim': ('openmim', 'onedl-mim'),
}
EXTRAS = {'mmdet': 'det', 'mmseg': 'seg', 'mmpretrain': 'cls', 'mim': 'mim'}
# One config of each library, which inherits from that library's own.
CONFIGS = {'mmdet': 'revcol_t_cascade', 'mmseg': 'revcol_t_upernet'}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        subject: What was looked at.
        text: What was found.
        cure: What to do about it; ``None`` if nothing is wrong.
    """

    subject: str
    text: str
    cure: str | None = None

    def __str__(self) -> str:
        line = f'{self.subject:<22} {self.text}'
        return line if self.cure is None else f'{line}\n{"":<22} -> {self.cure}'


def diagnose() -> list[Finding]:
    """Look at everything that a report needs."""
    return [
        _python(),
        *_torch(),
        *(_library(name) for name in LIBRARIES),
        _operators(),
        *(_config(library, name) for library, name in CONFIGS.items() if _installed(library)),
        _protection(),
        *_downloads(),
    ]


def _python() -> Finding:
    text = f'{platform.python_version()} on {platform.platform()}, revcol-backbone {__version__}'
    supported = OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON
    return Finding('Python', text, None if supported else 'use Python 3.11, 3.12 or 3.13')


def _torch() -> Iterator[Finding]:
    yield Finding('torch', f'{torch.__version__}, torchvision {version("torchvision")}')
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if names:
        yield Finding('devices', f'{", ".join(names)}; CUDA {torch.version.cuda}')
    else:
        yield Finding('devices', f'no GPU; threads on the CPU: {torch.get_num_threads()}')


def _installed(library: str) -> dict[str, str]:
    """Return the versions of the distributions that provide a library, by name."""
    found = {}
    for name in LIBRARIES[library]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _library(name: str) -> Finding:
    found = _installed(name)
    text = ', '.join(f'{distribution} {number}' for distribution, number in found.items())
    if len(found) > 1:
        keep = next(iter(found))
        return Finding(
            name,
            f'{text}: each overwrites files of the other',
            f'run `pip uninstall {" ".join(found)}`, then install one of them, such as {keep}',
        )
    if not found and name == 'mmcv':
        return Finding(name, 'missing', "run `pip install 'revcol-backbone[mmcv-lite]'`")
    if not found:
        return Finding(name, f"missing; `pip install 'revcol-backbone[{EXTRAS[name]}]'` brings it")
    return Finding(name, text)


def _operators() -> Finding:
    state = status().state
    usable = state in ('compiled mmcv', 'stand-in installed')
    cure = None if usable else 'run `python -m revcol_backbone.mmcv_ops install`'
    return Finding('mmcv operators', state, cure)


def _config(library: str, name: str) -> Finding:
    try:
        Config.fromfile(find_config(name))
    except Exception as error:  # a config is code, which can raise anything
        return Finding(
            f'configs of {library}',
            f'{name} cannot be read: {type(error).__name__}: {error}',
            f'install {LIBRARIES[library][0]} and revcol-backbone again',
        )
    count = len(list(INSTALLED.glob('*_configs/*.py')))
    return Finding(f'configs of {library}', f'{name} can be read, as one of {count} in {INSTALLED}')


class _Command:
    """Pickles as a call of ``os.mkdir``, as a malicious file would call something worse."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


def _protection() -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        made = os.path.join(folder, 'made')
        path = os.path.join(folder, 'file.pth')
        torch.save(dict(state_dict={}, meta=_Command(made)), path)
        with contextlib.suppress(pickle.UnpicklingError):
            CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
        if not os.path.exists(made):
            return Finding('checkpoint loading', 'refuses a file that would run a command')
    return Finding(
        'checkpoint loading',
        'a file that runs a command was read',
        'load no file of a stranger, and report this with the whole output',
    )


def _downloads() -> Iterator[Finding]:
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    files = sorted(folder.glob('*.pth')) if folder.is_dir() else []
    yield Finding('downloads', f'{len(files)} checkpoints in {folder}')
    for path in files:
        # torch writes zip archives, whose table is at the end: a file that was cut off has none.
        with path.open('rb') as file:
            damaged = file.read(2) == b'PK' and not zipfile.is_zipfile(path)
        if damaged:
            yield Finding('downloads', f'{path} is cut off', f'remove it: `rm {path}`')

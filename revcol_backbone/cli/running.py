"""Running the tools that are installed with the package, and openmim, with a config by its name."""

from __future__ import annotations

import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

from revcol_backbone.engine.building import read_model_config
from revcol_backbone.engine.openmmlab_imports import find_forks
from revcol_backbone.model_zoo import INSTALLED, find_config


def run_tool(tool: str, command: str, arguments: tuple[str, ...]) -> int:
    """Run a tool in this process.

    Args:
        tool: Its path within ``tools/``, without ``.py``.
        command: What the tool calls itself in its messages, after ``revcol``.
        arguments: Its command line.

    Returns:
        Its exit status.
    """
    sys.argv = [f'revcol {command}', *arguments]
    run = runpy.run_path(str(INSTALLED / 'tools' / f'{tool}.py'))['main']
    try:
        return run(list(arguments))
    except SystemExit as end:  # argparse's, after --help or wrong arguments
        return end.code if isinstance(end.code, int) else 0


def run_mim(command: str, arguments: tuple[str, ...]) -> int:
    """Run ``mim train`` or ``mim test`` with the library that the config belongs to.

    Args:
        command: ``'train'`` or ``'test'``.
        arguments: The config, and options of mim and of the library's script.

    Returns:
        The exit status.

    Raises:
        ImportError: openmim is not installed.
        ValueError: There is no such config.
    """
    if find_spec('mim') is None:
        raise ImportError(
            f"`revcol {command}` needs openmim: run `pip install 'revcol-backbone[mim]'`"
        )
    line = [sys.executable, '-m', 'mim', command]
    if not arguments or arguments[0] in ('-h', '--help'):
        print(f'usage: revcol {command} CONFIG [--gpus N] [options]\n', flush=True)
        return subprocess.run([*line, '--help'], check=False).returncode
    arguments = resolve_config(arguments)
    if not any(argument.partition('=')[0] in ('--gpus', '-G') for argument in arguments):
        arguments += ('--gpus', str(min(1, torch.cuda.device_count())))
    library = scope_of(arguments[0])
    # Under its module's name mim does not find the fork of mmdet.
    package = find_forks().get(library, library)
    return subprocess.run([*line, package, *arguments], check=False).returncode


def resolve_config(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Replace the name of an installed config, if that comes first, by its path.

    Raises:
        ValueError: It is neither a file nor the name of an installed config.
    """
    if not arguments or arguments[0].startswith('-') or Path(arguments[0]).exists():
        return arguments
    return str(find_config(arguments[0])), *arguments[1:]


def scope_of(path: str) -> str:
    """Return the library that a config belongs to: mmdet, mmseg or mmpretrain."""
    if path.startswith('-'):
        return 'mmdet'
    return read_model_config(Path(path)).get('default_scope') or 'mmdet'

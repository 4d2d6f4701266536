"""Compiling the C++ functions: once for a machine, whole or not at all, errors one can act on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import torch
from revcol_backbone import RevCol

model = RevCol({'channels': (4, 8, 12, 16), 'layers': (1, 1, 1, 1), 'columns': 2})
try:
    model.switch_to_deploy(native=True)
except RuntimeError as error:
    raise SystemExit(f'error: {error}; deployed: {model.deploy}')
torch.set_grad_enabled(False)
print('levels:', len(model(torch.zeros(1, 3, 64, 64))))
"""


def start(folder: Path, compiler: str | None = None) -> subprocess.Popen[str]:
    """Deploy natively in a new process, which keeps what it compiles in a folder."""
    environment = {**os.environ, 'TORCH_EXTENSIONS_DIR': str(folder)}
    if compiler is not None:
        environment['CXX'] = compiler
    return subprocess.Popen(
        [sys.executable, '-c', SCRIPT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compiled(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.rglob('*') if path.is_file())


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_library(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(2)]
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, errors
        assert 'levels: 4' in printed
    assert compiled(tmp_path) == ['.so']

    # Afterwards no compiler is needed.
    printed, errors = start(tmp_path, compiler='/nowhere/c++').communicate()
    assert 'levels: 4' in printed, errors
    assert 'Compiling' not in printed + errors


def test_a_missing_compiler_is_named_and_nothing_is_deployed(tmp_path: Path) -> None:
    process = start(tmp_path, compiler='/nowhere/c++')
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "the C++ compiler '/nowhere/c++' was not found" in errors
    assert 'do without switch_to_deploy(native=True)' in errors
    assert 'deployed: False' in errors


def test_what_a_failing_compiler_says_is_shown_and_nothing_is_left(tmp_path: Path) -> None:
    compiler = tmp_path / 'compiler'
    compiler.write_text('#!/bin/sh\necho "no such instruction" >&2\nexit 3\n')
    compiler.chmod(0o755)
    folder = tmp_path / 'extensions'
    process = start(folder, compiler=str(compiler))
    _, errors = process.communicate()
    assert process.returncode == 1
    assert 'failed with exit status 3' in errors
    assert 'no such instruction' in errors
    assert 'deployed: False' in errors
    assert compiled(folder) == []

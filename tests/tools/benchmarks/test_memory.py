"""The memory benchmark, run as a user runs it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / 'tools/benchmarks/memory.py'


@pytest.mark.slow
def test_it_writes_a_table_json_and_a_plot(tmp_path: Path) -> None:
    arguments = '--columns 2 4 --modes checkpoint anchor_0 anchor_1 --rounds 1 --size 64 64'
    small = '--channels 4 8 8 8 --layers 1 1 1 1 --device cpu --out out'
    command = [sys.executable, str(TOOL), *arguments.split(), *small.split()]
    printed = subprocess.run(
        command, cwd=tmp_path, text=True, capture_output=True, check=True
    ).stdout
    content = json.loads((tmp_path / 'out/memory.json').read_text())
    found = {(row['columns'], row['mode']): row for row in content['results']}
    assert len(found) == 8
    assert '| 4 | anchor_every=0 |' in printed
    assert 'Growth per column, from 2 to 4 columns' in printed
    assert found[4, 'plain']['peak_mib'] > found[4, 'anchor_0']['peak_mib']
    assert found[4, 'plain']['gradient_error'] == 0
    assert 0 < found[4, 'anchor_0']['gradient_error'] < 1e-4
    assert found[4, 'checkpoint']['gradient_error'] < 1e-6
    assert (tmp_path / 'out/memory.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.slow
def test_columns_of_other_networks_are_measured(tmp_path: Path) -> None:
    arguments = '--model revcol_vit_s --columns 1 2 --rounds 1 --size 32 32 --device cpu --out out'
    command = [sys.executable, str(TOOL), *arguments.split(), '--modes', 'checkpoint', 'anchor_0']
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    content = json.loads((tmp_path / 'out/memory.json').read_text())
    assert content['settings']['model'] == 'revcol_vit_s'
    errors = {row['mode']: row['gradient_error'] for row in content['results']}
    assert errors.keys() == {'plain', 'checkpoint', 'anchor_0'}
    assert max(errors.values()) < 1e-4


def peak_of_a_batch(batch: int) -> int:
    """Gradients at first, then two slopes, as of blocks that stop keeping their hidden layers."""
    return max(900, 200 + 30 * batch, 500 + 20 * batch)


@pytest.mark.parametrize(
    ('available', 'batch'), [(899, 0), (900, 20), (919, 20), (920, 21), (1099, 29), (3000, 93)]
)
def test_the_largest_batch_is_found_where_the_peak_is_not_linear(
    monkeypatch: pytest.MonkeyPatch, available: float, batch: int
) -> None:
    monkeypatch.syspath_prepend(str(TOOL.parent))
    largest_batch = importlib.import_module('memory').largest_batch
    for slope in (10, 20, 30, 60):
        assert largest_batch(peak_of_a_batch, slope, available) == batch

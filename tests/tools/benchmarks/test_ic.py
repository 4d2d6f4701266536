"""The benchmark of the IC convolution measures what it says, at a size that takes no time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.configs import ROOT


@pytest.mark.slow
def test_a_row_has_every_form(tmp_path):
    out = tmp_path / 'table.md'
    command = [sys.executable, ROOT / 'tools/benchmarks/ic.py', '--rounds', '1', '--out', out]
    subprocess.run([*command, '--sizes', '1x8x12x10x16x3x2'], check=True, capture_output=True)
    *_, row = out.read_text().splitlines()
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells[:4] == ['1 x 8 x 12 x 10', '16', '3, 2', '-']
    assert [len(cell.split(' / ')) for cell in cells[4::2]] == [3, 4, 3]
    assert all(float(ratio) > 0 for cell in cells[5::2] for ratio in cell.split(','))

"""The benchmarks of IC networks measure what they say, at sizes that take no time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.configs import ROOT


def run(tool: str, *arguments: object) -> str:
    command = [sys.executable, '-W', 'ignore', ROOT / 'tools/benchmarks' / tool, *arguments]
    return subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_a_row_has_every_form(tmp_path):
    out = tmp_path / 'table.md'
    run('ic.py', '--sizes', '1x8x12x10x16x3x2', '--rounds', 1, '--out', out)
    *_, row = out.read_text().splitlines()
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells[:4] == ['1 x 8 x 12 x 10', '16', '3, 2', '-']
    assert [len(cell.split(' / ')) for cell in cells[4::2]] == [3, 4, 3]
    assert all(float(ratio) > 0 for cell in cells[5::2] for ratio in cell.split(','))


def test_tables_and_curves_are_of_the_runs_that_are_there(tmp_path):
    for form, values in (('ResNet-18', (0.90, 0.92)), ("IC, w' from 0", (0.93, 0.91))):
        for seed, value in enumerate(values):
            result = dict(
                task='classification',
                form=form,
                seed=seed,
                curve=[[1, 0.5], [2, value]],
                multiply_adds=2_000_000,
                shares=[{}, {}],
            )
            (tmp_path / f'classification-{len(form)}-{seed}.json').write_text(json.dumps(result))
    table = run('ic_digits.py', '--seeds', 0, '--out', tmp_path)
    assert '| ResNet-18 | 2 | 91.00 | 1.41 |  | 2.000M |' in table
    assert "| IC, w' from 0 | 2 | 92.00 | 1.41 | +1.00 ± 2.83 | 2.000M |" in table
    assert (tmp_path / 'curves.png').stat().st_size > 10_000

"""The benchmark of small alphas, run as a user runs it."""

from __future__ import annotations

import json

import pytest

from tools.benchmarks.small_alphas import main

SMALL = '--columns 2 --side 32 --channels 4 8 8 8 --layers 1 1 1 1'


@pytest.mark.parametrize('part', ['error', 'cost'])
def test_it_prints_a_table_and_writes_the_figures(part, tmp_path, capsys):
    out = tmp_path / 'figures.json'
    options = ['--alphas', '0.5', '0.01'] if part == 'error' else ['--rounds', '1']
    assert main([part, *SMALL.split(), *options, '--out', str(out)]) == 0
    printed, rows = capsys.readouterr().out, json.loads(out.read_text())
    if part == 'error':
        assert len(rows) == 4 * 4  # two alphas, trained-like ones and a mixture, per precision
        assert '| 2 | 1% at 0.01 |' in printed
        assert 'float32: largest error' in printed
    else:
        assert [row['alpha'] for row in rows] == ['as trained', '0.1']
        assert all(0 < row['decision'] < row['step'] for row in rows)

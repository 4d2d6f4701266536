"""The benchmark of the involution layer, at a small size."""

from __future__ import annotations

from revcol_backbone.involution import use_native
from tools.benchmarks.involution import main

SMALL = ['--sizes', '1x16x6x5x3x1', '--rounds', '1', '--threads', '1']


def test_a_layer_is_compared_with_unfolding(capsys) -> None:
    assert main(SMALL) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith('| 1 x 16 x 6 x 5 | 3 | 1 |')
    assert 'gathered' in row
    assert 'native' not in row


def test_the_compiled_operator_is_measured_beside_a_busy_process(capsys) -> None:
    try:
        assert main([*SMALL, '--native', '--beside', '1']) == 0
    finally:
        use_native(False)
    printed = capsys.readouterr().out
    assert '1 threads, native beside 1 busy processes' in printed
    assert 'native' in printed.splitlines()[-1]

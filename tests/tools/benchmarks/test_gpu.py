"""``tools/benchmarks/gpu.sh`` at toy sizes on the CPU: every script of it runs and reports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLES = {
    *('memory', 'peers_tiny', 'peers_small', 'backbone', 'involution', 'ic'),
    *('revcol_t_upernet', 'revcol_t_cascade'),
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    folder = Path(sys.executable).parent
    return subprocess.run(
        ['bash', str(ROOT / 'tools/benchmarks/gpu.sh'), *map(str, arguments)],
        env={'PATH': f'{folder}:/usr/bin:/bin', 'VIRTUAL_ENV': str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_table_and_plot_is_written(tmp_path: Path) -> None:
    result = run('--device', 'cpu', '--small', '--out', tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert {path.stem for path in tmp_path.glob('*.md')} == TABLES
    for path in tmp_path.glob('*.md'):
        text = path.read_text()
        assert f'tools/benchmarks/{path.stem.partition("_")[0]}' in text or 'speed.py' in text
        assert re.search(r'\d\.\d', text.partition('\n')[2]), path.name
    assert (tmp_path / 'memory' / 'memory.png').stat().st_size > 0
    assert not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [(['--device', 'nowhere'], "cannot use the device 'nowhere'"), (['--fast'], "'--fast'")],
)
def test_what_cannot_be_done_is_one_sentence(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.returncode != 0
    assert words in result.stderr.splitlines()[-1]

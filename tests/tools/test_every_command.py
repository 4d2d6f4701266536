"""Every script of ``tools/`` can be imported, and tells its usage."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    path
    for path in sorted((ROOT / 'tools').glob('**/*.py'))
    if "__name__ == '__main__'" in path.read_text()
]
# The first two are started by openmim, with the arguments of MMDetection's and MMSegmentation's own
# scripts; the third takes no arguments.
OTHERS = {'train', 'test', 'smoke_test'}


@pytest.mark.parametrize(
    'path', [path for path in SCRIPTS if path.stem not in OTHERS], ids=lambda path: path.stem
)
def test_help_tells_the_usage(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr('sys.argv', [str(path), '--help'])
    monkeypatch.syspath_prepend(str(path.parent))
    script = importlib.import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts))
    with pytest.raises(SystemExit, match='^0$'):
        script.main()
    assert 'usage: ' in capsys.readouterr().out

"""Every script of ``tools/`` can be imported, and tells its usage."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for path in (ROOT / 'tools').glob('**/*.py')
)
# The first two are started by openmim, with the arguments of MMDetection's and MMSegmentation's own
# scripts; the third takes no arguments.
OTHERS = {'tools.train', 'tools.test', 'tools.smoke_test'}


@pytest.mark.parametrize('name', [name for name in SCRIPTS if name not in OTHERS])
def test_help_tells_the_usage(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr('sys.argv', [name, '--help'])
    with pytest.raises(SystemExit, match='^0$'):
        importlib.import_module(name).main()
    assert 'usage: ' in capsys.readouterr().out

"""The notebook of the documentation runs from top to bottom and shows what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / 'docs' / 'revcol.ipynb'


@pytest.mark.slow
def test_every_cell_runs(capsys: pytest.CaptureFixture) -> None:
    names: dict[str, object] = {}
    for cell in json.loads(NOTEBOOK.read_text('utf-8'))['cells']:
        if cell['cell_type'] == 'code':
            exec(compile(''.join(cell['source']), str(NOTEBOOK), 'exec'), names)
    printed = capsys.readouterr().out
    assert 'stride  4: (1, 64, 32, 40)' in printed
    assert 'stride 32: (1, 512, 4, 5)' in printed
    assert 'CascadeRCNN: ' in printed
    assert names['difference'] < 1e-3

"""``tools/benchmarks/roi_align.py``: a row for each level of a pyramid."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_every_level_has_its_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / 'tools/benchmarks'))
    main = importlib.import_module('roi_align').main
    assert main(['--regions', '4', '--rounds', '1']) == 0
    strides = re.findall(r'^\| (\d+) \|', capsys.readouterr().out, re.M)
    assert strides == ['4', '8', '16', '32']

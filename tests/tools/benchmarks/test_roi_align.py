"""``tools/benchmarks/roi_align.py``: a row for each level of a pyramid."""

from __future__ import annotations

import re

import pytest

from tools.benchmarks.roi_align import main


def test_every_level_has_its_row(capsys: pytest.CaptureFixture) -> None:
    assert main(['--regions', '4', '--rounds', '1']) == 0
    strides = re.findall(r'^\| (\d+) \|', capsys.readouterr().out, re.M)
    assert strides == ['4', '8', '16', '32']

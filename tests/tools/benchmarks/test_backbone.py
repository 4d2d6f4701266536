"""The benchmark of the deployed backbone, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / 'tools/benchmarks/backbone.py'


@pytest.mark.slow
def test_it_compares_every_form_with_the_trained_network(tmp_path: Path) -> None:
    arguments = '--shape 64 96 --batch-size 1 --rounds 2 --warmup 1 --threads 1 --no-compile'
    command = [sys.executable, str(TOOL), *arguments.split(), '--out', 'out.json']
    printed = subprocess.run(
        command, cwd=tmp_path, text=True, capture_output=True, check=True
    ).stdout
    content = json.loads((tmp_path / 'out.json').read_text())
    forms = ['float32, trained', 'float32, deployed', 'bfloat16 weights, deployed']
    forms.append('float32, deployed, native')
    assert set(forms) < set(content['seconds'])
    assert all(len(seconds) == 2 for seconds in content['seconds'].values())
    assert content['errors']['float32, trained'] == 0
    assert 0 < content['errors']['float32, deployed'] < 1e-5
    assert content['errors']['float32, deployed'] < content['errors']['bfloat16 weights, deployed']
    assert 0 < content['errors']['float32, deployed, native'] < 1e-5
    kinds = content['kinds']
    assert kinds['float32, deployed, native']['whole blocks'] > 0
    assert kinds['float32, trained']['GELU'] > 0
    assert kinds['float32, trained']['matrix products'] > 0
    assert all(name in printed for name in content['seconds'])

"""``tools/benchmarks/whole_models.py``: the parts of a step, and recomputation of some of them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PARTS = {
    'det_configs/quickstart_cascade.py': (
        ['backbone', 'neck', 'RPN', 'box stages', 'masks'],
        ['backbone', 'neck', 'RPN', 'box stages', 'masks', 'rest'],
    ),
    'seg_configs/quickstart_upernet.py': (
        ['backbone', 'decode head', 'auxiliary head'],
        ['backbone', 'decode head', 'result', 'rest'],
    ),
}


@pytest.fixture(autouse=True)
def _as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the file beside the script, as Python does where it runs one."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools/benchmarks'))


def report(capsys: pytest.CaptureFixture, config: str, *options: str) -> tuple[list, dict]:
    """The names of all rows, in order, and the MiB that each part of a training step keeps."""
    main = importlib.import_module('whole_models').main
    assert main([str(ROOT / config), '--shape', '128', '160', '--rounds', '1', *options]) == 0
    cells = [
        line.strip('| ').split(' | ')
        for line in re.findall(r'^\|.*\d.*', capsys.readouterr().out, re.M)
    ]
    return [row[0] for row in cells], {row[0]: int(row[4]) for row in cells if len(row) == 6}


@pytest.mark.parametrize('config', PARTS)
def test_every_part_of_training_and_testing_has_its_row(
    config: str, capsys: pytest.CaptureFixture
) -> None:
    names, kept = report(capsys, config)
    trained, tested = PARTS[config]
    assert names == trained + tested
    assert list(kept) == trained


def test_recomputed_parts_keep_less(capsys: pytest.CaptureFixture) -> None:
    config = 'seg_configs/quickstart_upernet.py'
    before = report(capsys, config)[1]['decode head']
    after = report(capsys, config, '--checkpoint-parts', 'decode_head.fpn_bottleneck')[1]
    assert after['decode head'] < before


def test_options_of_the_config_are_those_of_training(capsys: pytest.CaptureFixture) -> None:
    config = 'seg_configs/quickstart_upernet.py'
    plain, saving = (
        report(capsys, config, '--cfg-options', f'model.backbone.save_memory={value}')[1]
        for value in (False, True)
    )
    assert saving['backbone'] < plain['backbone']

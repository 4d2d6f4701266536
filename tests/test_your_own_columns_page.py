"""The example of docs/your_own_columns.md runs as it stands in the page, and trains as plainly."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from tests.columns_proof import error, gradients, plain_gradients
from tests.configs import ROOT
from tests.transformers.test_revcol_vit import COUNTED, PUBLISHED

PAGE = (ROOT / 'docs/your_own_columns.md').read_text(encoding='utf-8')


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (code,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    path = tmp_path / 'example.py'
    path.write_text(code)
    return path


def test_it_prints_what_the_page_says(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example))
    (printed,) = re.findall(r'It prints `(.*?)`', PAGE)
    assert capsys.readouterr().out == f'{printed}\n'


def test_its_gradients_are_those_of_plain_training(example: Path) -> None:
    network = runpy.run_path(str(example))['network'].double()
    assert network.save_memory
    x = (torch.randn(2, 3, 64, 64, dtype=torch.float64),)
    assert error(gradients(network, x), plain_gradients(network, x)) < 1e-9


def test_the_counted_numbers_are_those_that_a_test_counts() -> None:
    for (name, columns), (parameters, multiply_adds) in COUNTED.items():
        row = f'| {name[0].upper()}, counted | | | | {columns} | {parameters}M | {multiply_adds}G |'
        assert row in PAGE
    for name, (parameters, multiply_adds) in PUBLISHED.items():
        (row,) = re.findall(rf'\| {name[0].upper()}, published \|.*', PAGE)
        assert f'| 4 | {parameters}M | {multiply_adds}G |' in row

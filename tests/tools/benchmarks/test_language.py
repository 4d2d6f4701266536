"""The benchmark of the language encoder: its data, and a run as a user runs it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

TOOL = Path(__file__).parents[3] / 'tools/benchmarks/language.py'


@pytest.fixture(scope='module')
def language() -> ModuleType:
    spec = importlib.util.spec_from_file_location('language', TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_text_is_real_and_no_test_sentence_was_trained_on(language: ModuleType) -> None:
    text = language.read_text()
    assert sum(map(len, text.training)) > 30_000
    assert len(text.test) > 400
    assert all(4 <= len(sentence) <= 10 for sentence in text.test)
    trained = set(map(tuple, language.pieces(text.training)))
    assert not trained.intersection(map(tuple, text.test))
    words = text.training[0]
    assert [text.words[number] for number in sorted(words)] == sorted(
        text.words[number] for number in words
    )


def test_the_words_are_to_be_written_in_order_and_padded_at_the_end(language: ModuleType) -> None:
    source, target = language.collate([[9, 4, 7], [5, 3]])
    assert source.tolist() == [[9, 4, 7], [5, 3, 0]]
    assert target.tolist() == [[1, 4, 7, 9, 2], [1, 3, 5, 2, 0]]


def test_whole_sentences_are_counted_up_to_their_end(language: ModuleType) -> None:
    class Scripted(torch.nn.Module):
        """Writes [3, 5, END] whatever it is given."""

        def encode(self, source: torch.Tensor) -> torch.Tensor:
            return source

        def decode(self, memory: torch.Tensor, source: torch.Tensor, target: torch.Tensor):
            words = [3, 5, 2, 9]
            scores = torch.zeros(*target.shape, 10)
            scores[:, -1, words[min(target.shape[1], len(words)) - 1]] = 1
            return scores

    words, sentences = language.test(Scripted(), [[5, 3], [3, 4], [3, 5, 4]])
    assert words == pytest.approx(4 / 7)
    assert sentences == pytest.approx(1 / 3)


def test_both_encoders_are_of_one_size(language: ModuleType) -> None:
    plain, columns = (
        sum(parameter.numel() for parameter in make().parameters())
        for make in language.ENCODERS.values()
    )
    assert abs(columns / plain - 1) < 0.01


@pytest.mark.slow
def test_it_writes_the_table(tmp_path: Path) -> None:
    arguments = '--seeds 1 --steps 2 --workers 1 --out out/results.md'
    command = [sys.executable, str(TOOL), *arguments.split()]
    printed = subprocess.run(
        command, cwd=tmp_path, text=True, capture_output=True, check=True
    ).stdout
    lines = (tmp_path / 'out/results.md').read_text().splitlines()
    assert '\n'.join(lines) in printed
    plain, columns = ([float(c) for c in re.findall(r'([\d.]+) MiB', row)] for row in lines[2:])
    assert plain[1] > 3.5 * plain[0]
    # By default every fourth column is kept.
    assert columns[1] < 1.5 * columns[0]

"""The comparison with ConvNeXt and the published formulation, on a small image."""

from __future__ import annotations

import torch

from revcol_backbone import RevCol
from tests.golden import fill, image
from tools.benchmarks.peers import main, publish

SMALL = {'channels': (8, 16, 24, 32), 'layers': (1, 1, 2, 1), 'columns': 3}


def test_the_published_formulation_is_the_same_function() -> None:
    model, x = fill(RevCol(SMALL)).double(), image((2, 3, 64, 96)).double()
    torch.testing.assert_close(publish(fill(RevCol(SMALL)).double())(x), model(x))


def test_every_form_is_measured_beside_plain_training_and_convnext(capsys) -> None:
    shape = ['--train-shape', '1', '32', '64', '--infer-shape', '1', '32', '64']
    assert main([*shape, '--rounds', '1', '--threads', '1', '--clock', 'cpu']) == 0
    printed = capsys.readouterr().out
    rows = [line.split('|')[1].strip() for line in printed.splitlines() if line.startswith('| ')]
    train = ['published formulation', 'plain', 'save_memory, default']
    train += ['save_memory, anchor_every=0', 'ConvNeXt', 'ConvNeXt, checkpointed']
    train += ['plain, native', 'save_memory, default, native']
    train += ['save_memory, anchor_every=0, native']
    infer = ['published formulation', 'plain', 'deployed', 'deployed, native']
    infer += ['products alone', 'ConvNeXt']
    assert rows == ['form', *train, 'form', *infer]

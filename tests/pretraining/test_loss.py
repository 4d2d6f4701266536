"""The compound loss: its published weights, its labels and its target."""

from __future__ import annotations

import math

import pytest
import torch

from revcol_backbone.pretraining import compound_loss
from revcol_backbone.pretraining.loss import loss_terms, picture_target
from tests.golden import image

pytestmark = pytest.mark.on_device

CLASSES = 5


def test_terms_have_the_published_weights() -> None:
    logits = [torch.zeros(2, CLASSES)] * 4  # a cross-entropy of log 5 each
    pictures = [torch.zeros(2, 3, 32, 32)] * 3  # a binary one of log 2 each
    terms = loss_terms(logits, pictures, torch.tensor([0, 4]), torch.rand(2, 3, 32, 32))
    labels, rebuilt = [0.175, 0.35, 0.525, 1.0], [3.0, 2.0, 1.0]
    expected = {f'loss_label{i}': weight * math.log(CLASSES) for i, weight in enumerate(labels)}
    expected |= {f'loss_picture{i}': weight * math.log(2) for i, weight in enumerate(rebuilt)}
    assert {key: value.item() for key, value in terms.items()} == pytest.approx(expected)


def test_hard_labels_are_soft_ones_that_are_certain() -> None:
    logits = [image((3, CLASSES), f'logits{index}') for index in range(4)]
    pictures = [image((3, 3, 32, 32), f'picture{index}') for index in range(3)]
    picture, hard = torch.rand(3, 3, 32, 32), torch.tensor([4, 0, 2])
    soft = torch.nn.functional.one_hot(hard, CLASSES).float()
    for smoothing in (0.0, 0.1):
        of_hard = compound_loss(logits, pictures, hard, picture, label_smoothing=smoothing)
        smoothed = soft * (1 - smoothing) + smoothing / CLASSES
        of_soft = compound_loss(logits, pictures, smoothed, picture)
        torch.testing.assert_close(of_hard, of_soft)


def test_without_supervision_it_is_the_cross_entropy() -> None:
    logits, labels = image((3, CLASSES)), torch.tensor([1, 2, 3])
    loss, parts = compound_loss([logits], [], labels, None)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, labels))
    assert len(parts) == 1


def test_a_decoder_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match='4 classifiers and 2 decoders were given'):
        compound_loss(
            [torch.zeros(1, 2)] * 4, [torch.zeros(1, 3, 32, 32)] * 2, torch.tensor([0]), None
        )


def test_the_target_is_the_picture_before_normalization() -> None:
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.full((3, 1, 1), 0.25)
    picture = torch.rand(2, 3, 8, 8)
    picture[0, :, 0, 0], picture[0, :, 0, 1] = 0, 1
    target = picture_target((picture - mean) / std, mean, std)
    torch.testing.assert_close(target, picture.clamp(0.01, 0.99))

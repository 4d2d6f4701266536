"""The linear readout of a backbone's levels, on features whose class is known."""

from __future__ import annotations

import numpy as np
import torch

from revcol_backbone import RevCol
from tools.benchmarks.pretraining_readout import ARCH, box_features, measure


class Painted(RevCol):
    """Answers with the picture's first color at level 0 and with nothing above it."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        levels = super().forward(x)
        color = torch.nn.functional.interpolate(x[:, :1], levels[0].shape[-2:])
        return (levels[0] * 0 + color, *(level * 0 for level in levels[1:]))


def scenes() -> dict:
    images = torch.zeros(10, 3, 64, 64)
    images[::2, 0, :32, :32] = 1
    boxes = torch.tensor([[i, 0, 0, 32, 32] for i in range(10)], dtype=torch.float32)
    return dict.fromkeys(('train', 'val'), (images, boxes, np.arange(10) % 2))


def test_what_lies_in_the_box_is_read_out() -> None:
    accuracies = measure(Painted(ARCH), scenes())
    assert accuracies[0] == 1
    assert accuracies[1:] == [0.5] * 3


def test_a_box_has_four_cells_of_every_level() -> None:
    images, boxes, _ = scenes()['train']
    shapes = [level.shape for level in box_features(RevCol(ARCH), images, boxes)]
    assert shapes == [(10, 4 * channels) for channels in ARCH['channels']]

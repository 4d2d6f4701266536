"""The classifiers of pre-training."""

from __future__ import annotations

from torch import Tensor, nn

from revcol_backbone.level import EPSILON


class Classifier(nn.Module):
    """Global average pooling, LayerNorm and a linear layer on level 3 of a column.

    Args:
        channels: Width of level 3.
        num_classes: Number of classes.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Sequential(
            nn.LayerNorm(channels, eps=EPSILON), nn.Linear(channels, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn level 3, (B, C, H / 32, W / 32), into logits (B, classes)."""
        return self.classifier(x.mean(dim=(-2, -1)))

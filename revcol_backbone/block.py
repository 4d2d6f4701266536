"""The ConvNeXt-style block, of which every level of every column is a chain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.normalization import EPSILON

LAYER_SCALE_INIT = 1e-6
EXPANSION = 4


class Block(nn.Module):
    """Depthwise convolution and a two-layer perceptron on a residual branch (paper, figure 2c).

    Args:
        channels: Width C of the input and of the output.
        kernel_size: Odd size of the depthwise kernel; the padding keeps height and width.
        expansion: Width of the perceptron's hidden layer over C. Default 4.
    """

    def __init__(self, channels: int, kernel_size: int, expansion: int = EXPANSION) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(
            channels, channels, kernel_size, padding=(kernel_size - 1) // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.pwconv1 = nn.Linear(channels, expansion * channels)
        self.pwconv2 = nn.Linear(expansion * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE_INIT))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: Features of shape (B, C, H, W).
            keep: Drop path factors of shape (B,), 0 for a dropped sample and 1 / (1 - rate) for
                a kept one; ``None`` keeps all.

        Returns:
            Features of shape (B, C, H, W).
        """
        branch = self.dwconv(x).permute(0, 2, 3, 1)
        branch = self.pwconv2(F.gelu(self.pwconv1(self.norm(branch))))
        branch = (self.gamma * branch).permute(0, 3, 1, 2)
        if keep is not None:
            branch = branch * keep.view(-1, 1, 1, 1)
        return x + branch

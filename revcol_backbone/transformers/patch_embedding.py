"""Images to tokens: patches with absolute position embeddings, for images of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POSITION_STD = 0.02


class PatchEmbedding(nn.Module):
    """A convolution over patches, plus learned position embeddings that are resized as needed.

    Args:
        in_channels: Channels of the images.
        width: Width C of the tokens.
        patch: Side of a patch in pixels.
        grid: Rows and columns of patches for which position embeddings are learned.
    """

    def __init__(self, in_channels: int, width: int, patch: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.position_embedding = nn.Parameter(torch.empty(1, width, *grid))
        nn.init.trunc_normal_(self.position_embedding, std=POSITION_STD)

    def grid_of(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images (B, in_channels, H, W), the last ones padded."""
        height, width = x.shape[-2:]
        return -(-height // self.patch), -(-width // self.patch)

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (B, in_channels, H, W) into tokens (B, N, C), row by row.

        Sides that are not multiples of the patch are padded with zeros at the bottom and right.
        """
        height, width = x.shape[-2:]
        grid = self.grid_of(x)
        x = F.pad(x, (0, grid[1] * self.patch - width, 0, grid[0] * self.patch - height))
        positions: Tensor = self.position_embedding
        if positions.shape[-2:] != grid:
            positions = F.interpolate(positions, grid, mode='bicubic', antialias=True)
        tokens = self.projection(x) + positions
        return tokens.flatten(2).transpose(1, 2).contiguous()

"""The residual block of RedNet, and how many of them each network has."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from revcol_backbone.involution.involution import Involution, build_norm

# Blocks of the four stages by the network's depth (arXiv 2103.06255).
BLOCKS = {
    26: (1, 2, 4, 1),
    38: (2, 3, 5, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
EXPANSION = 4
KERNEL_SIZE = 7


class Bottleneck(nn.Module):
    """ResNet's bottleneck with a 7x7 involution for the 3x3 convolution, arXiv 2103.06255 sec. 3.3.

    Args:
        in_channels: Channels of the input.
        width: Channels of the involution; the output has four times as many.
        stride: Stride of the involution and of the shortcut.
        norm_cfg: As in :class:`~revcol_backbone.involution.RedNet`.
        involution_norm_cfg: As in :class:`~revcol_backbone.involution.RedNet`.
        with_cp: Recompute the block in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        norm_cfg: dict | None = None,
        involution_norm_cfg: dict | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = build_norm(norm_cfg, width)
        self.conv2 = Involution(width, KERNEL_SIZE, stride, involution_norm_cfg or norm_cfg)
        self.bn2 = build_norm(norm_cfg, width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = build_norm(norm_cfg, out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                build_norm(norm_cfg, out_channels),
            )
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, 4 * width, ceil(H / stride), ceil(W / stride))."""
        if self.with_cp and x.requires_grad:
            return checkpoint(self._compute, x, use_reentrant=False)
        return self._compute(x)

    def _compute(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out + shortcut, inplace=True)

"""The decoders that rebuild the picture from a column's top level (paper, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from revcol_backbone.level import Block, ChannelsFirstLayerNorm

# Up to here the full decoder is used, beyond it the simple one.
MOST_CLASSES_OF_FULL_DECODER = 1000
STEM_STRIDE = 4
TOP_STRIDE = 32
COLORS = 3


def make_decoder(channels: Sequence[int], num_classes: int) -> nn.Module:
    """Make the decoder that goes with a number of classes.

    Args:
        channels: Widths of the four levels.
        num_classes: Classes of the data set.

    Returns:
        A module from level 3, (B, C[3], H / 32, W / 32), to the logits of a picture (B, 3, H, W)
        in [0, 1]; H and W are multiples of 32.
    """
    if num_classes <= MOST_CLASSES_OF_FULL_DECODER:
        return Decoder(channels)
    return SimpleDecoder(channels[-1])


class Decoder(nn.Module):
    """Three stages from level to level down to stride 4, and a convolution to the pixels.

    Each stage is a 1x1 convolution to the width of the next lower level, LayerNorm, GELU,
    bilinear upsampling to twice the size, and one block that is not wider inside than outside.

    Args:
        channels: Widths of the four levels.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        widths = list(reversed(channels))
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.proj_layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, narrow, kernel_size=1), ChannelsFirstLayerNorm(narrow), nn.GELU()
            )
            for wide, narrow in steps
        )
        self.upsample = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)
        self.normal_layers = nn.ModuleList(
            nn.Sequential(Block(narrow, kernel_size=3, expansion=1)) for _, narrow in steps
        )
        self.projback = nn.Sequential(
            nn.Conv2d(widths[-1], COLORS * STEM_STRIDE**2, kernel_size=1),
            nn.PixelShuffle(STEM_STRIDE),
        )

    def forward(self, x: Tensor) -> Tensor:
        for project, block in zip(self.proj_layers, self.normal_layers, strict=True):
            x = block(self.upsample(project(x)))
        return self.projback(x)


class SimpleDecoder(nn.Module):
    """LayerNorm and one 1x1 convolution from level 3 to all pixels under it.

    Args:
        channels: Width of level 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projback = nn.Sequential(
            ChannelsFirstLayerNorm(channels),
            nn.Conv2d(channels, COLORS * TOP_STRIDE**2, kernel_size=1),
            nn.PixelShuffle(TOP_STRIDE),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.projback(x)

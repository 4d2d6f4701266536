"""ViTDet's simple feature pyramid (arXiv 2203.16527, section 3): four strides from one map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from revcol_backbone.level import ChannelsFirstLayerNorm


class SimplePyramid(nn.Module):
    """Maps of 1/4, 1/8, 1/16 and 1/32 of the image from the last map of a plain backbone at 1/16.

    The 1x1 and 3x3 convolutions that follow in ViTDet are those of the FPN or UPerNet behind it.

    Args:
        width: Channels C of the map, a multiple of 4.
        indices: Which of the four maps to make.
    """

    def __init__(self, width: int, indices: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        makers = (_upsample_by_four, _upsample_by_two, _leave, _downsample_by_two)
        self.scales = nn.ModuleList(makers[index](width) for index in indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Rescale a map (B, C, h, w).

        Returns:
            Of these the wanted ones, in the order of ``indices``: (B, C/4, 4h, 4w),
            (B, C/2, 2h, 2w), (B, C, h, w) and (B, C, h/2, w/2), rounded up.
        """
        return tuple(scale(x) for scale in self.scales)


def _upsample_by_four(width: int) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2),
        ChannelsFirstLayerNorm(width // 2),
        nn.GELU(),
        nn.ConvTranspose2d(width // 2, width // 4, kernel_size=2, stride=2),
    )


def _upsample_by_two(width: int) -> nn.Module:
    return nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2)


def _leave(width: int) -> nn.Module:
    return nn.Identity()


def _downsample_by_two(width: int) -> nn.Module:
    return nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True)

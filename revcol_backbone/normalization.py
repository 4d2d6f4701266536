"""Layer normalisation over the channels of a feature map in (B, C, H, W) layout."""

import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6


class ChannelsFirstLayerNorm(nn.LayerNorm):
    """LayerNorm over dimension 1 of a (B, C, H, W) tensor, at every position by itself.

    The normalised dimension is moved last, so that PyTorch's fused kernel does the work, and
    back; on a ``channels_last`` input both moves are views.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)

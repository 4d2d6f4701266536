"""The involution layer: kernels made from the input itself, and the operator that applies them."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from revcol_backbone.involution.operator import involution

# Channels that share a kernel, and the factor by which the kernel generation narrows the input.
GROUP_WIDTH = 16
REDUCTION = 4
NORMALIZATIONS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}


class Involution(nn.Module):
    """Involution, arXiv 2103.06255, with the state dict of the published models.

    The kernels of a pixel are made from that pixel: average pooling by ``stride``, ``conv1`` (1x1,
    C to C / 4, batch normalization, ReLU) and ``conv2`` (1x1, C / 4 to K * K * C / 16, with bias).

    Args:
        channels: C of the input and of the output, a multiple of 16.
        kernel_size: K, odd.
        stride: Step between window centers, in pixels. Default 1.
        norm_cfg: Normalization of ``conv1``: ``dict(type='BN')`` (default) or
            ``dict(type='SyncBN')``, with ``requires_grad`` and other settings as in mmdet.

    The initial weights are those of the release: Kaiming (normal, fan out), biases 0.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self, channels: int, kernel_size: int, stride: int = 1, norm_cfg: dict | None = None
    ) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < GROUP_WIDTH or channels % GROUP_WIDTH:
            raise ValueError(
                f'Involution channels={channels!r} is not allowed; give a positive multiple of '
                f'{GROUP_WIDTH}, the number of channels that share a kernel.'
            )
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f'Involution kernel_size={kernel_size!r} is not allowed; give a positive odd '
                'integer, such as 3 or 7.'
            )
        if not isinstance(stride, int) or stride < 1:
            raise ValueError(
                f'Involution stride={stride!r} is not allowed; give a positive integer.'
            )
        self.channels, self.kernel_size, self.stride = channels, kernel_size, stride
        self.groups = channels // GROUP_WIDTH
        hidden = channels // REDUCTION
        # An input that the stride does not divide still gives ceil(H / stride) rows of kernels.
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.conv1 = conv_norm_relu(channels, hidden, 1, 1, norm_cfg)
        conv2 = nn.Conv2d(hidden, kernel_size**2 * self.groups, 1)
        self.conv2 = nn.Sequential(OrderedDict(conv=conv2))
        for conv in (self.conv1[0], conv2):
            weight = conv.get_parameter('weight')
            nn.init.kaiming_normal_(weight, mode='fan_out', nonlinearity='relu')
        nn.init.zeros_(conv2.get_parameter('bias'))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, C, H, W), in any memory format.

        Returns:
            (B, C, ceil(H / stride), ceil(W / stride)).

        Raises:
            ValueError: The input has another number of channels or dimensions.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(
                f'Involution got an input of shape {tuple(x.shape)}; it takes (batch, '
                f'{self.channels}, height, width).'
            )
        kernel = self.conv2(self.conv1(self.pool(x)))
        return involution(x, kernel.unflatten(1, (self.groups, self.kernel_size**2)), self.stride)

    def extra_repr(self) -> str:
        return f'{self.channels}, kernel_size={self.kernel_size}, stride={self.stride}'


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, norm_cfg: dict | None
) -> nn.Sequential:
    """Build a convolution without bias (``conv``), its normalization (``bn``) and a ReLU."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
    return nn.Sequential(
        OrderedDict(
            conv=conv, bn=build_norm(norm_cfg, out_channels), activate=nn.ReLU(inplace=True)
        )
    )


def build_norm(norm_cfg: dict | None, channels: int) -> nn.Module:
    """Build the batch normalization that a config names.

    Args:
        norm_cfg: As in mmdet: ``type`` is ``'BN'`` or ``'SyncBN'``, ``requires_grad`` says whether
            its weight and bias are trained (default yes), anything else goes to the layer. ``None``
            means ``dict(type='BN')``.
        channels: C.

    Raises:
        ValueError: ``type`` is another normalization.
    """
    settings = dict(norm_cfg or {})
    kind = settings.pop('type', 'BN')
    requires_grad = settings.pop('requires_grad', True)
    if kind not in NORMALIZATIONS:
        raise ValueError(
            f'norm_cfg type {kind!r} is not allowed in an involution network, whose published '
            f'weights hold batch normalization; give one of {", ".join(map(repr, NORMALIZATIONS))}.'
        )
    norm = NORMALIZATIONS[kind](channels, **settings)
    return norm.requires_grad_(requires_grad)

"""Swin columns: windows of attention inside RevCol's fusion, from a block that timm wrote."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from revcol_backbone.argument_checks import check_integer, drop_path_rates
from revcol_backbone.column import Column
from revcol_backbone.columns_backbone import ColumnsBackbone
from revcol_backbone.level import ChannelsFirstLayerNorm, Level
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY
from revcol_backbone.revcol import check_input, initialize_weights
from revcol_backbone.transformers.repeatable_attention import repeatable_attention
from revcol_backbone.variants import LEVELS, Architecture, resolve_architecture


@MODELS.register_module()
class SwinColumns(ColumnsBackbone):
    """Reversible columns of Swin Transformer blocks (arXiv 2103.14030), as a backbone.

    Stem, fusion and alphas are RevCol's, the blocks are timm's. In each level every second block
    shifts its windows.

    Args:
        arch: Widths, blocks and columns as for :class:`~revcol_backbone.RevCol`; the widths are
            multiples of ``head_dim``. Default ``'tiny'``.
        head_dim: Width of an attention head. Default 32.
        window_size: Side of a window. Default 7.
        drop_path_rate: Stochastic depth rate of the last block of each column, at least 0 and
            below 1; it rises linearly from 0 over the blocks of a column. Default 0.
        in_channels: Channels of the images. Default 3.
        save_memory: Recompute the columns in the backward pass instead of keeping them, so that
            training memory does not grow with their number. Default ``True``.
        anchor_every: With ``save_memory``, keep the outputs of every so-many-th column; 0 keeps
            only the last one's.
        frozen_columns: -1 freezes nothing, 0 the stem, n the stem and the first n columns.
        init_cfg: As in mmengine.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        arch: str | dict | Architecture = 'tiny',
        head_dim: int = 32,
        window_size: int = 7,
        drop_path_rate: float = 0.0,
        in_channels: int = 3,
        save_memory: bool = True,
        anchor_every: int = DEFAULT_ANCHOR_EVERY,
        frozen_columns: int = -1,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        owner, arch = type(self).__name__, resolve_architecture(arch)
        check_integer(owner, 'window_size', window_size, 2)
        check_integer(owner, 'in_channels', in_channels, 1)
        if any(width % check_integer(owner, 'head_dim', head_dim, 1) for width in arch.channels):
            raise ValueError(
                f'{owner} head_dim={head_dim} does not divide the widths {arch.channels}; give a '
                'common divisor.'
            )
        rising = iter(drop_path_rates(owner, drop_path_rate, sum(arch.layers)))
        rates = [list(itertools.islice(rising, count)) for count in arch.layers]
        stem = nn.Sequential(
            nn.Conv2d(in_channels, arch.channels[0], kernel_size=4, stride=4),
            ChannelsFirstLayerNorm(arch.channels[0]),
        )
        columns = [
            Column(
                [
                    Level(arch, index, column == 0, _block_maker(head_dim, window_size))
                    for index in range(LEVELS)
                ],
                alpha_shapes=[(1, width, 1, 1) for width in arch.channels],
                drop_path_rates=rates,
            )
            for column in range(arch.columns)
        ]
        for module in (stem, *columns):
            module.apply(initialize_weights)
        super().__init__(
            columns,
            stem,
            save_memory=save_memory,
            anchor_every=anchor_every,
            frozen_columns=frozen_columns,
            init_cfg=init_cfg,
        )
        self.arch, self.in_channels = arch, in_channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Compute the four levels of the last column.

        Args:
            x: Images of shape (B, in_channels, H, W), H and W at least 32.

        Returns:
            For each level a tensor (B, C[l], H / s, W / s), s = 4, 8, 16, 32, rounded down.

        Raises:
            ValueError: The input has another shape.
        """
        check_input(x, self.in_channels)
        return super().forward(x)


class WindowBlock(nn.Module):
    """timm's Swin block on feature maps of any size.

    Maps are padded with zeros to whole windows, as Swin does it, but before the windows are
    shifted, so that the block's mask keeps apart what shifting brings together.

    Args:
        channels: Width C of the input and of the output.
        head_dim: Width of an attention head.
        window: Side of a window.
        shift: By how much the windows are shifted, in rows and in columns.
    """

    def __init__(self, channels: int, head_dim: int, window: int, shift: int) -> None:
        super().__init__()
        self.window = window
        self.block = SwinTransformerBlock(
            channels,
            input_resolution=window,
            num_heads=channels // head_dim,
            window_size=window,
            shift_size=shift,
            always_partition=True,
            dynamic_mask=True,
        )
        # timm leaves it off by default.
        self.block.attn.fused_attn = True

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: Features of shape (B, C, H, W).
            keep: Drop path factors of shape (B,) of both of the block's branches together.

        Returns:
            Features of the same shape.
        """
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.window, 0, -height % self.window))
        with repeatable_attention(x, self.training):
            result = self.block(padded.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        result = result[..., :height, :width]
        return result if keep is None else x + keep.view(-1, 1, 1, 1) * (result - x)


def _block_maker(head_dim: int, window: int) -> Callable[[int], nn.Module]:
    """Make the blocks of one level from their width, with plain and shifted windows in turn."""
    shifts = itertools.cycle((0, window // 2))
    return lambda channels: WindowBlock(channels, head_dim, window, next(shifts))

"""RevCol-ViT: columns of ViT blocks, as a backbone for detection and segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from mmengine.registry import MODELS
from torch import Tensor

from revcol_backbone.argument_checks import check_indices, check_integer, drop_path_rates
from revcol_backbone.column import Column
from revcol_backbone.columns_backbone import ColumnsBackbone
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY
from revcol_backbone.revcol import initialize_weights
from revcol_backbone.transformers.patch_embedding import PatchEmbedding
from revcol_backbone.transformers.simple_pyramid import SimplePyramid
from revcol_backbone.transformers.vit_block import ViTLevel
from revcol_backbone.transformers.vit_variants import ViTArchitecture, resolve_vit_architecture
from revcol_backbone.variants import LEVELS

PATCH = 16


@MODELS.register_module()
class RevColViT(ColumnsBackbone):
    """RevCol-ViT (arXiv 2212.11696, appendix): isotropic columns of ViT blocks.

    All four levels of a column have the patches' resolution and one width. Blocks have normalized
    attention and LayerNorm after each branch, as in Swin Transformer V2, from which the paper takes
    both. The last level of the last column goes through ViTDet's simple feature pyramid.

    Args:
        arch: ``'small'``, ``'base'``, or ``dict(width=int, layers=(4 ints), heads=int,
            columns=int)``.
        img_size: Side of the images for which position embeddings are learned, a multiple of 16;
            for others they are resized. Default 224.
        drop_path_rate: Stochastic depth rate of the last block of each column, at least 0 and
            below 1; it rises linearly from 0 over the blocks of a column. Default 0.
        out_indices: Maps to return, of 0, 1, 2, 3 for strides 4, 8, 16, 32. Default all; ``(2,)``
            returns the last level as it is.
        save_memory: Recompute the columns in the backward pass instead of keeping them, so that
            training memory does not grow with their number. Default ``False``.
        anchor_every: With ``save_memory``, keep the outputs of every so-many-th column; 0 keeps
            only the last one's.
        frozen_columns: -1 freezes nothing, 0 the stem, n the stem and the first n columns.
        in_channels: Channels of the images. Default 3.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` loads a checkpoint of this
            network, and fails if it does not fit; other types as in mmengine.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    arch: ViTArchitecture
    stem: PatchEmbedding

    def __init__(
        self,
        arch: str | Mapping | ViTArchitecture,
        img_size: int = 224,
        drop_path_rate: float = 0.0,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        save_memory: bool = False,
        anchor_every: int = DEFAULT_ANCHOR_EVERY,
        frozen_columns: int = -1,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        arch = resolve_vit_architecture(arch)
        out_indices = check_indices('RevColViT', 'out_indices', out_indices, LEVELS)
        in_channels = check_integer('RevColViT', 'in_channels', in_channels, 1)
        side, rest = divmod(check_integer('RevColViT', 'img_size', img_size, PATCH), PATCH)
        if rest:
            raise ValueError(
                f'RevColViT img_size={img_size} is not allowed; give a multiple of 16.'
            )
        rates = drop_path_rates('RevColViT', drop_path_rate, sum(arch.layers))
        super().__init__(
            [_make_column(arch, index == 0, rates) for index in range(arch.columns)],
            PatchEmbedding(in_channels, arch.width, PATCH, (side, side)),
            save_memory,
            anchor_every,
            frozen_columns,
            init_cfg=init_cfg,
        )
        self.arch, self.out_indices, self.in_channels = arch, out_indices, in_channels
        self.pyramid = SimplePyramid(arch.width, out_indices)
        self.apply(initialize_weights)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # images alone
        """Compute the feature pyramid.

        Args:
            x: Images of shape (B, in_channels, H, W), of any size.

        Returns:
            For each of ``out_indices`` a map: (B, C/4, 4h, 4w), (B, C/2, 2h, 2w), (B, C, h, w) or
            (B, C, h/2, w/2), where h = H / 16 and w = W / 16; all are rounded up.

        Raises:
            ValueError: The input has another shape.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'RevColViT got an input of shape {tuple(x.shape)}; it takes images of shape '
                f'(batch, {self.in_channels}, height, width).'
            )
        *_, top = super().forward(x)
        grid = self.stem.grid_of(x)
        return self.pyramid(top.transpose(1, 2).unflatten(2, grid))


def _make_column(arch: ViTArchitecture, is_first_column: bool, rates: list[float]) -> Column:
    # A block draws once for attention and once for its perceptron.
    twice = iter([rate for rate in rates for _ in range(2)])
    return Column(
        [
            ViTLevel(arch.width, arch.heads, blocks, index, LEVELS, is_first_column)
            for index, blocks in enumerate(arch.layers)
        ],
        alpha_shapes=[(arch.width,)] * LEVELS,
        drop_path_rates=[list(islice(twice, 2 * blocks)) for blocks in arch.layers],
    )

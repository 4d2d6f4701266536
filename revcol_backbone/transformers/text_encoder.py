"""The encoder of a translation Transformer as reversible columns."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from revcol_backbone.argument_checks import check_integer
from revcol_backbone.column import Column, Features
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY
from revcol_backbone.reversible_columns import ReversibleColumns
from revcol_backbone.transformers.token_fusion import TokenFusion


class TextEncoder(ReversibleColumns):
    """Columns of PyTorch's own encoder layers, to be used as ``torch.nn.TransformerEncoder`` is.

    It takes what that class takes, so that ``torch.nn.Transformer(custom_encoder=...,
    batch_first=True)`` trains it together with PyTorch's decoder. Each column has levels of one
    length and one width; the masks are constants of the columns. The tokens come embedded, so that
    there is no stem.

    Args:
        columns: Number of columns.
        levels: Levels of each column, at least 2.
        layers: Encoder layers in each level.
        width: Width C of the tokens.
        heads: Attention heads.
        hidden: Hidden width of the layers' perceptrons.
        dropout: Dropout after attention and in the perceptrons. Weights of attention are not
            dropped, which fused kernels on a CPU cannot do.
        save_memory: Recompute the columns in the backward pass instead of keeping them, so that
            training memory does not grow with their number.
        anchor_every: With ``save_memory``, keep the outputs of every so-many-th column; 0 keeps
            only the last one's.
        frozen_columns: -1 or 0 freezes nothing, n the first n columns.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        columns: int = 4,
        levels: int = 2,
        layers: int = 1,
        width: int = 512,
        heads: int = 8,
        hidden: int = 2048,
        dropout: float = 0.1,
        save_memory: bool = True,
        anchor_every: int = DEFAULT_ANCHOR_EVERY,
        frozen_columns: int = -1,
    ) -> None:
        owner = type(self).__name__
        check_integer(owner, 'columns', columns, 1)
        check_integer(owner, 'levels', levels, 2)
        check_integer(owner, 'layers', layers, 1)

        def level(index: int, is_first_column: bool) -> nn.Module:
            fusion = TokenFusion(width, index, levels, is_first_column)
            return TextLevel(
                fusion, [make_layer(width, heads, hidden, dropout) for _ in range(layers)]
            )

        super().__init__(
            [
                Column([level(i, column == 0) for i in range(levels)], [(width,)] * levels)
                for column in range(columns)
            ],
            stem=nn.Identity(),
            save_memory=save_memory,
            anchor_every=anchor_every,
            frozen_columns=frozen_columns,
        )
        self.norm = nn.LayerNorm(width)

    def forward(  # type: ignore[override]
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Encode sequences.

        Args:
            src: Embedded tokens, (B, N, C).
            mask: Which positions may not attend to which, (N, N), as in PyTorch.
            src_key_padding_mask: Which tokens are padding, (B, N), as in PyTorch.
            is_causal: No effect: ``mask`` says it.

        Returns:
            The normalized top level of the last column, (B, N, C).
        """
        return self.norm(super().forward(src, src_key_padding_mask, mask)[-1])


class TextLevel(nn.Module):
    """F of a level: the fusion, then PyTorch's encoder layers.

    Args:
        fusion: Fuses what is below and above.
        layers: Modules with the arguments of ``torch.nn.TransformerEncoderLayer``.
    """

    def __init__(self, fusion: nn.Module, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.fusion = fusion
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        below: Tensor,
        above: Features = (),
        keep: None = None,
        padding_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Compute a level (B, N, C); masks as in :class:`TextEncoder`."""
        x = self.fusion(below, above)
        for layer in self.layers:
            x = layer(x, src_mask=mask, src_key_padding_mask=padding_mask)
        return x


def make_layer(width: int, heads: int, hidden: int, dropout: float) -> nn.TransformerEncoderLayer:
    """Make PyTorch's layer, with LayerNorm first, that drops no weights of attention."""
    layer = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout, batch_first=True, norm_first=True
    )
    layer.self_attn.dropout = 0.0
    return layer

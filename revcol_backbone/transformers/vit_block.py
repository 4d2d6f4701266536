"""The ViT block of RevCol-ViT: normalized attention, and LayerNorm after each branch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.level import EPSILON, EXPANSION
from revcol_backbone.transformers.token_fusion import TokenFusion

# Swin Transformer V2 (arXiv 2111.09883), section 3.2: its temperature is at least 0.01.
LARGEST_SCALE = math.log(100)
SCALE_INIT = math.log(10)
BRANCH_SCALE_INIT = 1e-6


class ViTLevel(nn.Module):
    """F[l,i] of RevCol-ViT: the fusion of what is below and above, and a chain of blocks.

    Args:
        width: Width C of the tokens.
        heads: Attention heads.
        blocks: Number of blocks.
        index: Index of the level.
        levels: Number of levels of a column.
        is_first_column: The first column has no column before it.
    """

    def __init__(
        self, width: int, heads: int, blocks: int, index: int, levels: int, is_first_column: bool
    ) -> None:
        super().__init__()
        self.fusion = TokenFusion(width, index, levels, is_first_column)
        self.blocks = nn.ModuleList(ViTBlock(width, heads) for _ in range(blocks))

    def forward(
        self,
        below: Tensor,
        above: Sequence[Tensor] = (),
        keep: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Fuse and run the blocks on tokens (B, N, C); ``keep`` has two factors for each block."""
        x = self.fusion(below, above)
        for index, block in enumerate(self.blocks):
            x = block(x, *(keep[2 * index : 2 * index + 2] if keep else ()))
        return x


class ViTBlock(nn.Module):
    """Attention and a perceptron on residual branches that end in LayerNorm (Swin V2, figure 1).

    The branches start small, as those of RevCol's blocks do by their layer scale.

    Args:
        width: Width C of the tokens.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = CosineAttention(width, heads)
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = nn.Sequential(
            nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width)
        )
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        for norm in (self.norm1, self.norm2):
            nn.init.constant_(norm.weight, BRANCH_SCALE_INIT)

    def forward(
        self, x: Tensor, keep_attention: Tensor | None = None, keep_mlp: Tensor | None = None
    ) -> Tensor:
        """Apply the block to tokens (B, N, C).

        Each ``keep`` holds drop path factors of shape (B,) of one branch, 0 for a dropped sample
        and 1 / (1 - rate) for a kept one; ``None`` keeps all.
        """
        x = x + _scaled(self.norm1(self.attention(x)), keep_attention)
        return x + _scaled(self.norm2(self.mlp(x)), keep_mlp)


class CosineAttention(nn.Module):
    """Self-attention by the cosine of queries and keys, with a learned scale for each head.

    Args:
        width: Width C of the tokens, a multiple of ``heads``.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.logit_scale = nn.Parameter(torch.full((heads,), SCALE_INIT))
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from each token (B, N, C) to all, by PyTorch's fused kernels."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind()
        scale = self.logit_scale.clamp(max=LARGEST_SCALE).exp()
        query = (F.normalize(query, dim=-1) * scale[:, None, None]).to(value.dtype)
        key = F.normalize(key, dim=-1).to(value.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return self.projection(mixed.transpose(1, 2).flatten(2))


def _scaled(branch: Tensor, keep: Tensor | None) -> Tensor:
    return branch if keep is None else branch * keep.view(-1, 1, 1)

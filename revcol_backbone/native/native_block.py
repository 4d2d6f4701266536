"""The deployed block that runs as one C++ function where it can."""

from __future__ import annotations

import torch
from torch import Tensor, library, nn

from revcol_backbone.deploy import DeployedBlock
from revcol_backbone.level import EPSILON
from revcol_backbone.native.compiling import native_library
from revcol_backbone.native.packing import pack_panels, pack_taps, packed
from revcol_backbone.onednn import fusable_dtype


class NativeBlock(DeployedBlock):
    """A deployed block as one C++ function on x86 CPUs, for float32 without gradients.

    Elsewhere (other devices and dtypes, autocast, gradients wanted, exporting, tracing) it is what
    it was made from. As :class:`~revcol_backbone.deploy.PackedLinear` does, it makes a copy of the
    weights in a layout of its own at the first use, and again when they change.

    Args:
        block: A deployed block, whose layers become layers of this one.
    """

    def __init__(self, block: DeployedBlock) -> None:
        nn.Module.__init__(self)
        self.dwconv, self.pwconv1, self.pwconv2 = block.dwconv, block.pwconv1, block.pwconv2

    def forward(
        self, x: Tensor, keep: None = None, shortcut: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Apply the block to features of shape (B, C, H, W); nothing is ever dropped.

        ``shortcut`` is ``alpha`` (1, C, 1, 1) and the level in the column before, whose product is
        added to the result.
        """
        if not runs_natively(x):
            x = super().forward(x)
            return x if shortcut is None else torch.addcmul(x, *shortcut)
        is_compiling = torch.compiler.is_compiling()
        run = torch.ops.revcol_backbone.native_block if is_compiling else _native_block
        alpha, previous = shortcut or (None, None)
        result = run(
            x.permute(0, 2, 3, 1),
            self.dwconv.weight,
            self.dwconv.bias,
            self.pwconv1.weight,
            self.pwconv1.bias,
            self.pwconv2.weight,
            self.pwconv2.bias,
            alpha,
            None if previous is None else previous.permute(0, 2, 3, 1),
        )
        return result.permute(0, 3, 1, 2)


def runs_natively(x: Tensor) -> bool:
    """Whether the C++ functions take x as it is."""
    return x.dtype is torch.float32 and fusable_dtype(x) is torch.float32


def _native_block(
    x: Tensor,
    taps: Tensor,
    taps_bias: Tensor | None,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
    alpha: Tensor | None,
    previous: Tensor | None,
) -> Tensor:
    return native_library().packed_block(
        x.contiguous(),
        packed(taps, pack_taps),
        taps_bias,
        packed(first, pack_panels),
        first_bias,
        packed(second, pack_panels),
        second_bias,
        EPSILON,
        None if alpha is None else alpha.flatten(),
        None if previous is None else previous.contiguous(),
    )


# To a compiler it is one step, which it cannot take apart.
library.custom_op('revcol_backbone::native_block', _native_block, mutates_args=())


@library.register_fake('revcol_backbone::native_block')
def _(x: Tensor, *others: Tensor | None) -> Tensor:
    return x.new_empty(x.shape)

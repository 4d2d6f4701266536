"""Making the parts of a deployed network native."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from revcol_backbone.deploy import DeployedBlock
from revcol_backbone.level import Fusion, Level
from revcol_backbone.native.native_block import NativeBlock
from revcol_backbone.native.native_fusion import NativeFusion


def make_native(network: nn.Module) -> None:
    """Replace the blocks, fusions and levels of a deployed network in place.

    The new ones have the weights, and the keys of the state dict, of those they replace.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is DeployedBlock:
                setattr(module, name, NativeBlock(child))
            elif type(child) is Fusion:
                setattr(module, name, NativeFusion(child))
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is Level and len(child.blocks) and type(child.blocks[-1]) is NativeBlock:
                setattr(module, name, NativeLevel(child))


class NativeLevel(Level):
    """A level whose last block, a native one, adds the shortcut from the column before.

    Args:
        level: A deployed level, whose parts become parts of this one.
    """

    takes_shortcut = True

    def __init__(self, level: Level) -> None:
        nn.Module.__init__(self)
        self.fusion, self.blocks = level.fusion, level.blocks

    def forward(
        self,
        below: Tensor,
        above: Sequence[Tensor] = (),
        keep: Sequence[Tensor | None] | None = None,
        shortcut: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Fuse and run the blocks; nothing is ever dropped, and ``shortcut`` is the last one's."""
        x = self.fusion(below, above)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        return last(x, None, shortcut)

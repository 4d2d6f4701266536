"""The fusion of a level that runs as C++ functions where it can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, library, nn

from revcol_backbone.level import EPSILON, Fusion
from revcol_backbone.native.compiling import native_library
from revcol_backbone.native.native_block import runs_natively
from revcol_backbone.native.packing import pack_panels, packed


class NativeFusion(Fusion):
    """A fusion as one C++ function for each branch, of which the last adds the one before.

    Where :class:`~revcol_backbone.native.native_block.NativeBlock` is what it was made from, this
    is, too.

    Args:
        fusion: A fusion, whose branches become branches of this one.
    """

    def __init__(self, fusion: Fusion) -> None:
        nn.Module.__init__(self)
        for name, branch in fusion.named_children():
            self.add_module(name, branch)

    def forward(self, below: Tensor, above: Sequence[Tensor] = ()) -> Tensor:
        """Fuse; arguments and result as in :class:`~revcol_backbone.level.Fusion`."""
        if not runs_natively(below):
            return super().forward(below, above)
        up = None
        if hasattr(self, 'up'):
            linear, norm = self.up.channel_reschedule
            up = _project(above[0], linear, norm)
        if hasattr(self, 'down'):
            convolution, norm = self.down
            return _project(below, convolution, norm, up)
        size = below.shape[-2:]
        fused = below if up is None else below + F.interpolate(up, size=size, mode='nearest')
        return fused + self.up2(above[-1], size) if hasattr(self, 'up2') else fused


def _project(x: Tensor, layer: Any, norm: Any, added: Tensor | None = None) -> Tensor:
    """Apply a linear layer, or a convolution without overlap, and LayerNorm; add a smaller map."""
    is_compiling = torch.compiler.is_compiling()
    run = torch.ops.revcol_backbone.native_projection if is_compiling else _native_projection
    added = None if added is None else added.permute(0, 2, 3, 1)
    result = run(x.permute(0, 2, 3, 1), layer.weight, layer.bias, norm.weight, norm.bias, added)
    return result.permute(0, 3, 1, 2)


def _native_projection(
    x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, added: Tensor | None
) -> Tensor:
    return native_library().packed_projection(
        x.contiguous(),
        _size(weight),
        packed(weight, pack_panels),
        bias,
        scale,
        shift,
        EPSILON,
        None if added is None else added.contiguous(),
    )


library.custom_op('revcol_backbone::native_projection', _native_projection, mutates_args=())


@library.register_fake('revcol_backbone::native_projection')
def _(
    x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, added: Tensor | None
) -> Tensor:
    batch, height, width, _ = x.shape
    size = _size(weight)
    return x.new_empty((batch, height // size, width // size, len(weight)))


def _size(weight: Tensor) -> int:
    """Height and width of what the layer sees."""
    return weight.shape[-1] if weight.ndim == 4 else 1

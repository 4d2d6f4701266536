"""Nearest-neighbor upsampling from the top level to the lowest one, pixel for pixel as PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from revcol_backbone.column import UpBranch


class GatheredUpBranch(nn.Module):
    """Equals an :class:`~revcol_backbone.column.UpBranch`; rows and columns are picked by index.

    PyTorch picks floor(i * (in / out)); ONNX's ``Resize`` picks floor(i / (out / in)). In float32
    these differ where i * in / out is a whole number: never for ``up``, where out is 2 in or
    2 in + 1, but for ``up2`` with its eightfold size at 114 pixels out of 14, among others.

    Args:
        branch: The branch, whose weights are used.
    """

    def __init__(self, branch: UpBranch) -> None:
        super().__init__()
        self.channel_reschedule = branch.channel_reschedule

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample (B, C, H, W) to (B, C', *size)."""
        x = self.channel_reschedule(x.permute(0, 2, 3, 1))
        x = x.index_select(1, _nearest(x.shape[1], size[0], x.device))
        x = x.index_select(2, _nearest(x.shape[2], size[1], x.device))
        return x.permute(0, 3, 1, 2)


def replace_long_up_branches(module: nn.Module) -> None:
    """Replace every ``up2`` of a RevCol, in place."""
    for child in list(module.modules()):
        if isinstance(getattr(child, 'up2', None), UpBranch):
            child.up2 = GatheredUpBranch(child.up2)


def _nearest(given: int, wanted: int, device: torch.device) -> Tensor:
    """For each of ``wanted`` places the index among ``given``, in PyTorch's arithmetic."""
    sizes = [torch.scalar_tensor(n, dtype=torch.float32, device=device) for n in (given, wanted)]
    places = torch.arange(wanted, device=device).to(torch.float32)
    return (places * (sizes[0] / sizes[1])).floor().to(torch.int64)

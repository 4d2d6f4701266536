"""The pointwise part of a training block as C++ functions on CPUs."""

from __future__ import annotations

import torch
from torch import Tensor

from revcol_backbone.block import perceptron
from revcol_backbone.block.perceptron import Perceptron, PerceptronSums
from revcol_backbone.native.compiling import native_library
from revcol_backbone.native.packing import pack_panels


def train_natively(enabled: bool = True) -> None:
    """Train the blocks of this process by C++ functions, in float32 on CPUs.

    They are compiled at the first call on a machine, as for ``RevCol.switch_to_deploy``, and take
    the large maps, whose hidden layers are not kept; these have most of the pixels. Other maps,
    dtypes and devices are not affected.

    Args:
        enabled: ``False`` goes back to PyTorch's operators.

    Raises:
        RuntimeError: The machine is not one for it, has no compiler, or the compiler fails.
        OSError: What was compiled cannot be written.
    """
    if enabled:
        native_library()
    perceptron.choose(NativePerceptron if enabled else Perceptron)


class NativePerceptron(Perceptron):
    """A perceptron whose rows are computed tile by tile, in one parallel region a direction."""

    def forward(
        self,
        mixed: Tensor,
        shortcut: Tensor,
        factors: Tensor | None,
        result: Tensor,
        hidden: Tensor | None = None,
    ) -> None:
        """Compute the rows; arguments as in ``Perceptron``."""
        if hidden is not None or not self._is_native(mixed, mixed, shortcut, result):
            super().forward(mixed, shortcut, factors, result, hidden)
            return
        target = result.contiguous()
        native_library().perceptron_forward(
            mixed.contiguous(), shortcut.contiguous(), factors, *self._packed(), self.eps, target
        )
        _copy_back(target, result)

    def backward(
        self,
        gradient: Tensor,
        mixed: Tensor,
        factors: Tensor | None,
        sums: PerceptronSums,
        by_mixed: Tensor,
        hidden: Tensor | None = None,
        shortcut: Tensor | None = None,
        result: Tensor | None = None,
    ) -> None:
        """Compute the gradients; arguments as in ``Perceptron``."""
        tensors = [t for t in (gradient, mixed, by_mixed, shortcut, result) if t is not None]
        if hidden is not None or not self._is_native(mixed, *tensors):
            super().backward(gradient, mixed, factors, sums, by_mixed, hidden, shortcut, result)
            return
        by_target = by_mixed.contiguous()
        base = target = None
        if shortcut is not None and result is not None:
            base, target = shortcut.contiguous(), result.contiguous()
        outer, inner, inner_sum, outer_sum = native_library().perceptron_backward(
            gradient.contiguous(),
            mixed.contiguous(),
            factors,
            *self._packed(),
            pack_panels((self.weight2 * self.gamma[:, None]).t()),
            pack_panels((self.weight1 * self.norm_weight).t()),
            self.eps,
            by_target,
            base,
            target,
        )
        _copy_back(by_target, by_mixed)
        _copy_back(target, result)
        # LayerNorm's affine part is in the weights: its gradients follow from theirs.
        inner = inner.t()
        by_norm = torch.linalg.vecdot(self.weight1, inner, dim=0), inner_sum @ self.weight1
        sums.add(
            outer,
            outer_sum,
            inner * self.norm_weight + torch.outer(inner_sum, self.norm_bias),
            inner_sum,
            *by_norm,
        )

    def _is_native(self, mixed: Tensor, *tensors: Tensor) -> bool:
        # On smaller maps, packing the weights would cost more than it brings.
        return len(mixed) >= perceptron.RECOMPUTE_FROM * len(self.weight1) and all(
            tensor.device.type == 'cpu' and tensor.dtype is torch.float32
            for tensor in (*tensors, self.weight1, self.norm_weight, self.gamma)
        )

    def _packed(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both linear layers with LayerNorm's affine part and the layer scale."""
        first = pack_panels(self.weight1 * self.norm_weight)
        second = pack_panels(self.weight2 * self.gamma[:, None])
        first_bias = torch.addmv(self.bias1, self.weight1, self.norm_bias)
        return first, first_bias, second, self.bias2 * self.gamma


def _copy_back(target: Tensor | None, wanted: Tensor | None) -> None:
    """Finish where a result could not be written to the memory that was meant for it."""
    if target is not None and wanted is not None and target is not wanted:
        wanted.copy_(target)

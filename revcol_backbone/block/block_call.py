"""The steps from which a block's forward and backward passes are made."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from revcol_backbone.block.perceptron import PerceptronSums, make_perceptron


class BlockCall:
    """One call of a block: its tensors in the right precision, of the samples that are not dropped.

    Args:
        x: Features of shape (B, C, H, W).
        keep: Drop path factors of shape (B,), or ``None``.
        eps: LayerNorm's.
        autocast: The dtype of autocast, ``None`` where it is off.
        weights: The weights and biases of the block's modules in order, and gamma.
    """

    def __init__(
        self,
        x: Tensor,
        keep: Tensor | None,
        eps: float,
        autocast: torch.dtype | None,
        weights: Sequence[Tensor],
    ) -> None:
        self._dtype = autocast or x.dtype
        self._output_dtype = output_dtype(x, weights[-1])
        self._x, self._weights = x, weights
        self._dw_weight, self._dw_bias = (weight.to(self._dtype) for weight in weights[:2])
        self._chosen, self.factors = _drop(keep, x)
        self._source = x if self._chosen is None else x[self._chosen]
        self.perceptron = make_perceptron(weights[2:], eps, self._dtype)

    def mix(self) -> Tensor:
        """The depthwise convolution's output."""
        source = self._source.to(self._dtype)
        return _to_rows(convolve(source, self._dw_weight, self._dw_bias))

    def rows(self) -> Tensor:
        """The block's input."""
        return _to_rows(self._source)

    def new_rows(self) -> Tensor:
        """Memory for the block's output."""
        return torch.empty_like(self.rows(), dtype=self._output_dtype)

    def chosen_rows(self, gradient: Tensor) -> Tensor:
        """The gradient of the samples that are not dropped."""
        return _to_rows(gradient if self._chosen is None else gradient[self._chosen])

    def output(self, result: Tensor | None) -> Tensor:
        """The block's output from its rows; without rows NaN, which takes no memory."""
        if result is None:
            return self._x.new_full((), torch.nan, dtype=self._output_dtype).expand(self._x.shape)
        if self._chosen is None:
            return _from_rows(result, self._x)
        output = self._x.to(result.dtype, copy=True, memory_format=torch.channels_last)
        output[self._chosen] = _from_rows(result, self._source)
        return output

    def gradients(
        self,
        by_mixed: Tensor,
        gradient: Tensor,
        sums: PerceptronSums,
        needs_x: bool,
        needs: Sequence[bool],
    ) -> list[Tensor | None]:
        """Of x and of all weights, from that of the convolution's output."""
        by_x, by_dw_weight, by_dw_bias = torch.ops.aten.convolution_backward(
            _from_rows(by_mixed, self._source),
            self._source.to(self._dtype),
            self._dw_weight,
            self._dw_bias.shape,
            [1, 1],
            [self._dw_weight.shape[-1] // 2] * 2,
            [1, 1],
            False,
            [0, 0],
            len(self._dw_weight),
            [needs_x, needs[0], needs[1]],
        )
        dtype = self._x.dtype
        if needs_x and self._chosen is None:
            by_x = by_x.to(dtype).add_(gradient)
        elif needs_x and self._chosen is not None:
            by_x = gradient.to(dtype, copy=True).index_add_(0, self._chosen, by_x.to(dtype))
        found = (by_dw_weight, by_dw_bias, *sums.gradients())
        return [by_x] + [
            value.to(weight.dtype) if needed else None
            for value, weight, needed in zip(found, self._weights, needs, strict=True)
        ]


def output_dtype(x: Tensor, gamma: Tensor) -> torch.dtype:
    """The dtype of a block's output."""
    return torch.promote_types(x.dtype, gamma.dtype)


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The depthwise convolution, which keeps height and width."""
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))


def _drop(keep: Tensor | None, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The samples whose branch is computed, ``None`` for all, and a factor for each row of it."""
    if keep is None:
        return None, None
    chosen = None
    # Elsewhere than on a CPU, choosing would wait for the device.
    if x.device.type == 'cpu' and not keep.all():
        chosen = keep.nonzero().flatten()
        keep = keep[chosen]
    return chosen, keep.repeat_interleave(x.shape[2] * x.shape[3])[:, None]


def _to_rows(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B H W, C), without a copy where the memory is ``channels_last``."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _from_rows(rows: Tensor, like: Tensor) -> Tensor:
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)

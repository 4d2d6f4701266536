"""The pointwise part of a ConvNeXt-style block, over chunks of positions that stay in a cache.

The hidden layer is four times as wide as the features. Chunk by chunk it is neither written to
memory nor read from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of the hidden layer of one chunk: on a CPU what each thread's second-level cache holds
# beside the weights, on other devices a bound on the memory that is needed beside the results.
CPU_CHUNK = 1 << 20
DEVICE_CHUNK = 1 << 28
# With this many positions for each hidden unit, computing the hidden layer again costs less than
# writing and reading it: the weights are small beside the map.
RECOMPUTE_FROM = 4


class Perceptron:
    """x + factor * gamma * (W2 GELU(W1 LN(m) + b1) + b2) for rows of positions, and its gradients.

    Args:
        weights: LayerNorm's weight and bias, those of both linear layers, and gamma.
        eps: LayerNorm's.
        dtype: Precision of the products.
    """

    def __init__(self, weights: Sequence[Tensor], eps: float, dtype: torch.dtype) -> None:
        self.norm_weight, self.norm_bias, *linear, self.gamma = weights
        self.weight1, self.bias1, self.weight2, self.bias2 = (w.to(dtype) for w in linear)
        self.eps, self.dtype = eps, dtype

    def hidden_to_keep(self, mixed: Tensor) -> Tensor | None:
        """Memory for the hidden layer where keeping it pays, for :meth:`forward` to fill."""
        width = len(self.weight1)
        return mixed.new_empty(len(mixed), width) if len(mixed) < RECOMPUTE_FROM * width else None

    def forward(
        self,
        mixed: Tensor,
        shortcut: Tensor,
        factors: Tensor | None,
        result: Tensor,
        hidden: Tensor | None = None,
    ) -> None:
        """Compute the rows.

        Args:
            mixed: m, the depthwise convolution's output, (rows, C).
            shortcut: x, (rows, C).
            factors: Drop path factors (rows, 1); ``None`` for 1.
            result: Where the result goes, (rows, C).
            hidden: Where the hidden layer before GELU goes, (rows, hidden).
        """
        for part in self._chunks(mixed):
            rounded = self._normalize(mixed[part])[0].to(self.dtype)
            if hidden is None:
                unit = torch.addmm(self.bias1, rounded, self.weight1.t())
                activation = torch.ops.aten.gelu_(unit)
            else:
                unit = torch.addmm(self.bias1, rounded, self.weight1.t(), out=hidden[part])
                activation = F.gelu(unit)
            self._add_branch(part, activation, shortcut, factors, result)

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
        """Compute the gradients, and the rows as well where ``result`` is given.

        Args:
            gradient: Of the result, (rows, C).
            mixed, factors, shortcut, result: As in :meth:`forward`.
            sums: Collects the gradients of the weights.
            by_mixed: Where the gradient of ``mixed`` goes; may be ``mixed`` itself.
            hidden: As :meth:`forward` filled it; ``None`` computes it again.
        """
        scaled = (self.weight2 * self.gamma[:, None]).to(self.dtype)
        for part in self._chunks(mixed):
            outer = gradient[part] if factors is None else gradient[part] * factors[part]
            normalized, mean, rstd = self._normalize(mixed[part])
            rounded = normalized.to(self.dtype)
            if hidden is None:
                unit = torch.addmm(self.bias1, rounded, self.weight1.t())
            else:
                unit = hidden[part]
            activation = F.gelu(unit)
            if result is not None and shortcut is not None:
                self._add_branch(part, activation, shortcut, factors, result)
            sums.add_outer(outer, activation)
            # From here on the activation's memory holds its gradient, then the hidden layer's.
            inner = torch.mm(outer.to(self.dtype), scaled, out=activation)
            torch.ops.aten.gelu_backward.grad_input(inner, unit, grad_input=inner)
            sums.add_inner(inner, rounded)
            found, *by_norm = torch.ops.aten.native_layer_norm_backward(
                torch.mm(inner, self.weight1).to(normalized.dtype),
                mixed[part].to(normalized.dtype),
                self.norm_weight.shape,
                mean,
                rstd,
                self.norm_weight,
                self.norm_bias,
                [True, True, True],
            )
            by_mixed[part] = found
            sums.add_norm(*by_norm)

    def _normalize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """LayerNorm in the precision of its weight: the result, mean and 1 / standard deviation."""
        weight = self.norm_weight
        return torch.native_layer_norm(
            rows.to(weight.dtype), weight.shape, weight, self.norm_bias, self.eps
        )

    def _add_branch(
        self,
        part: slice,
        activation: Tensor,
        shortcut: Tensor,
        factors: Tensor | None,
        result: Tensor,
    ) -> None:
        branch = torch.addmm(self.bias2, activation, self.weight2.t()).to(result.dtype)
        scale = self.gamma if factors is None else self.gamma * factors[part]
        base = shortcut[part].to(result.dtype)
        torch.addcmul(base, branch, scale.to(result.dtype), out=result[part])

    def _chunks(self, rows: Tensor) -> Iterator[slice]:
        is_cpu = rows.device.type == 'cpu'
        size = CPU_CHUNK * torch.get_num_threads() if is_cpu else DEVICE_CHUNK
        count = max(1, len(rows) * len(self.weight1) * rows.element_size() // size)
        for index in range(count):
            yield slice(len(rows) * index // count, len(rows) * (index + 1) // count)


class PerceptronSums:
    """The gradients of a perceptron's weights, added up chunk by chunk.

    With g the gradient of the output, ``outer`` is g^T GELU(h): the second weight's gradient but
    for the layer scale. That of the layer scale follows from it without the branch itself:
    sum_p g_pc (W2 a_p + b2)_c = sum_k W2_ck (g^T a)_ck + b2_c sum_p g_pc.

    Args:
        perceptron: The perceptron.
        needs: Which of its weights want a gradient, in the order of its arguments.
    """

    def __init__(self, perceptron: Perceptron, needs: Sequence[bool]) -> None:
        self._perceptron = perceptron
        weight1 = perceptron.weight1
        hidden, channels = weight1.shape
        is_half = weight1.dtype in (torch.float16, torch.bfloat16)
        dtype = torch.float32 if is_half else weight1.dtype
        self._norm_weight, self._norm_bias, self._outer_sum = weight1.new_zeros(
            (3, channels), dtype=dtype
        )
        self._inner_sum = weight1.new_zeros(hidden, dtype=dtype)
        self._needs_outer, self._needs_inner = needs[4] or needs[6], needs[2]
        self._outer: Tensor | None = None
        self._inner: Tensor | None = None

    def add(
        self,
        outer: Tensor,
        outer_sum: Tensor,
        inner: Tensor,
        inner_sum: Tensor,
        by_norm_weight: Tensor,
        by_norm_bias: Tensor,
    ) -> None:
        """Add everything at once, for those who sum by themselves."""
        self._outer = outer if self._needs_outer else None
        self._inner = inner if self._needs_inner else None
        self._outer_sum += outer_sum
        self._inner_sum += inner_sum
        self.add_norm(by_norm_weight, by_norm_bias)

    def add_outer(self, gradient: Tensor, activation: Tensor) -> None:
        """Add a chunk of the gradient of the output, and GELU's output."""
        self._outer_sum += gradient.sum(0, dtype=self._outer_sum.dtype)
        if self._needs_outer:
            self._outer = self._sum(self._outer, gradient.to(activation.dtype), activation)

    def add_inner(self, gradient: Tensor, normalized: Tensor) -> None:
        """Add a chunk of the gradient of the hidden layer, and LayerNorm's output."""
        self._inner_sum += gradient.sum(0, dtype=self._inner_sum.dtype)
        if self._needs_inner:
            self._inner = self._sum(self._inner, gradient, normalized)

    def add_norm(self, by_weight: Tensor, by_bias: Tensor) -> None:
        """Add a chunk's gradients of LayerNorm's weight and bias."""
        self._norm_weight += by_weight
        self._norm_bias += by_bias

    def gradients(self) -> list[Tensor | None]:
        """Return those of all weights, in the order of the perceptron's arguments."""
        weight2, bias2, gamma = (
            getattr(self._perceptron, name) for name in ('weight2', 'bias2', 'gamma')
        )
        by_gamma = by_weight2 = None
        if self._outer is not None:
            by_gamma = torch.linalg.vecdot(weight2.to(self._outer.dtype), self._outer)
            by_gamma += bias2 * self._outer_sum
            by_weight2 = self._outer.mul_(gamma[:, None])
        by_bias2 = gamma * self._outer_sum
        norm = [self._norm_weight, self._norm_bias]
        return [*norm, self._inner, self._inner_sum, by_weight2, by_bias2, by_gamma]

    def _sum(self, total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
        """Add left^T right, in the precision of the sums."""
        if total is None:
            return torch.mm(left.t(), right).to(self._inner_sum.dtype)
        if total.dtype == left.dtype:
            return total.addmm_(left.t(), right)
        return total.add_(torch.mm(left.t(), right))


_chosen: type[Perceptron] = Perceptron


def choose(kind: type[Perceptron]) -> None:
    """Let :func:`make_perceptron` make perceptrons of another kind."""
    global _chosen
    _chosen = kind


def make_perceptron(weights: Sequence[Tensor], eps: float, dtype: torch.dtype) -> Perceptron:
    """A perceptron of the chosen kind; arguments as for :class:`Perceptron`."""
    return _chosen(weights, eps, dtype)

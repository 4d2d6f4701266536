"""The ConvNeXt-style block as one differentiable function, with its backward pass by hand.

Autograd keeps about twelve maps of a block's width for each block. This function keeps two, its
input and the depthwise convolution's output, and on small maps the hidden layer as well. The
perceptron runs over chunks of positions that stay in a CPU's cache, so that its hidden layer, four
times as wide, is neither written to memory nor read from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._device import DeviceContext

# Bytes of the hidden layer of one chunk: about what the second-level cache of a CPU holds for each
# thread; on other devices a bound on the memory that the function needs beside its results.
CPU_CHUNK = 1 << 21
DEVICE_CHUNK = 1 << 28
# With this many positions for each hidden unit, computing the hidden layer again costs less than
# writing and reading it: the weights are small beside the map.
RECOMPUTE_FROM = 4

_MODULES = {'dwconv': nn.Conv2d, 'norm': nn.LayerNorm, 'pwconv1': nn.Linear, 'pwconv2': nn.Linear}


class BlockModules(Protocol):
    """What a block consists of."""

    dwconv: nn.Conv2d
    norm: nn.LayerNorm
    pwconv1: nn.Linear
    pwconv2: nn.Linear
    gamma: nn.Parameter


def apply_block(block: BlockModules, x: Tensor, keep: Tensor | None) -> Tensor:
    """Apply a block by :class:`BlockFunction`, or by its modules where those do more than compute.

    The modules run one by one where hooks, wrappers, parametrizations or quantized weights hang on
    them, under compilers, tracers, ``torch.func`` and forward-mode differentiation, and on the meta
    device.

    Args:
        block: A :class:`~revcol_backbone.level.Block`.
        x: Features of shape (B, C, H, W).
        keep: Drop path factors of shape (B,), or ``None``.

    Returns:
        Features of shape (B, C, H, W).
    """
    modules = [getattr(block, name) for name in _MODULES]
    is_plain = all(map(_is_ordinary, modules, _MODULES.values())) and not _is_transformed()
    if is_plain and not x.is_meta:  # there is no autocast to ask about on the meta device
        weights = [tensor for module in modules for tensor in (module.weight, module.bias)]
        tensors = (x, *weights, block.gamma)
        if not _is_overridden(tensors):
            return BlockFunction.apply(x, keep, block.norm.eps, *tensors[1:])
    branch = block.dwconv(x).permute(0, 2, 3, 1)
    branch = block.pwconv2(F.gelu(block.pwconv1(block.norm(branch))))
    return _add_branch(x, branch, block.gamma, keep)


class BlockFunction(torch.autograd.Function):
    """x + keep * gamma * (W2 GELU(W1 LN(dwconv(x)) + b1) + b2), with gradients of any order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor | None, eps: float, *weights: Tensor) -> Tensor:
        """Compute the block; ``weights`` are those of the modules in order, and gamma."""
        ctx.eps, ctx.autocast = eps, _autocast_dtype(x)
        dtype = ctx.autocast or x.dtype
        dw_weight, dw_bias, norm_weight, norm_bias, *linear, gamma = weights
        weight1, bias1, weight2, bias2 = (tensor.to(dtype) for tensor in linear)
        chosen, factors = _drop(keep, x)
        source = x if chosen is None else x[chosen]
        with torch.autocast(x.device.type, enabled=False):
            mixed = _to_rows(_convolve(source.to(dtype), dw_weight.to(dtype), dw_bias.to(dtype)))
            shortcut = _to_rows(source)
            result = torch.empty_like(shortcut, dtype=torch.promote_types(x.dtype, gamma.dtype))
            hidden = None
            if any(ctx.needs_input_grad) and len(mixed) < RECOMPUTE_FROM * len(weight1):
                hidden = mixed.new_empty(len(mixed), len(weight1))
            for part in _chunks(mixed, len(weight1)):
                normalized, *_ = _normalize(mixed[part], norm_weight, norm_bias, eps)
                rounded = normalized.to(dtype)
                if hidden is None:
                    unit = torch.addmm(bias1, rounded, weight1.t())
                    unit = torch.ops.aten.gelu_(unit)
                else:
                    unit = F.gelu(torch.addmm(bias1, rounded, weight1.t(), out=hidden[part]))
                branch = torch.addmm(bias2, unit, weight2.t()).to(result.dtype)
                scale = gamma if factors is None else gamma * factors[part]
                base = shortcut[part].to(result.dtype)
                torch.addcmul(base, branch, scale.to(result.dtype), out=result[part])
        ctx.save_for_backward(x, keep, mixed, hidden, *weights)
        if chosen is None:
            return _from_rows(result, x)
        output = x.to(result.dtype, copy=True, memory_format=torch.channels_last)
        output[chosen] = _from_rows(result, source)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients; where a graph of them is wanted, by autograd."""
        x, keep, mixed, hidden, *weights = ctx.saved_tensors
        needs_x, _, _, *needs = ctx.needs_input_grad
        if torch.is_grad_enabled():
            return _differentiable_gradients(ctx, gradient, x, keep, weights)
        dtype = ctx.autocast or x.dtype
        dw_weight, dw_bias, norm_weight, norm_bias, *linear, gamma = weights
        weight1, bias1, weight2, bias2 = (tensor.to(dtype) for tensor in linear)
        chosen, factors = _drop(keep, x)
        source, incoming = (x, gradient) if chosen is None else (x[chosen], gradient[chosen])
        incoming = _to_rows(incoming)
        sums = _Sums(mixed, weight1, needs)
        mixed_gradient = torch.empty_like(mixed)
        for part in _chunks(mixed, len(weight1)):
            outer = incoming[part] if factors is None else incoming[part] * factors[part]
            normalized, mean, rstd = _normalize(mixed[part], norm_weight, norm_bias, ctx.eps)
            rounded = normalized.to(dtype)
            unit = torch.addmm(bias1, rounded, weight1.t()) if hidden is None else hidden[part]
            activation = F.gelu(unit)
            sums.add_outer(outer, activation)
            # From here on the activation's memory holds its gradient, then the hidden layer's.
            inner = torch.mm((outer * gamma).to(dtype), weight2, out=activation)
            torch.ops.aten.gelu_backward.grad_input(inner, unit, grad_input=inner)
            sums.add_inner(inner, rounded)
            found, by_weight, by_bias = torch.ops.aten.native_layer_norm_backward(
                torch.mm(inner, weight1).to(normalized.dtype),
                mixed[part].to(normalized.dtype),
                norm_weight.shape,
                mean,
                rstd,
                norm_weight,
                norm_bias,
                [True, True, True],
            )
            mixed_gradient[part] = found
            sums.add_norm(by_weight, by_bias)
        by_x, by_dw_weight, by_dw_bias = torch.ops.aten.convolution_backward(
            _from_rows(mixed_gradient, source),
            source.to(dtype),
            dw_weight.to(dtype),
            dw_bias.shape,
            [1, 1],
            [dw_weight.shape[-1] // 2] * 2,
            [1, 1],
            False,
            [0, 0],
            len(dw_weight),
            [needs_x, needs[0], needs[1]],
        )
        if needs_x:
            by_x = by_x.to(x.dtype)
            if chosen is None:
                by_x = by_x.add_(gradient)
            else:
                by_x = gradient.to(x.dtype, copy=True).index_add_(0, chosen, by_x)
        found = (by_dw_weight, by_dw_bias, *sums.gradients(weight2, bias2, gamma))
        by_weights = (
            value.to(weight.dtype) if needed else None
            for value, weight, needed in zip(found, weights, needs, strict=True)
        )
        return by_x, None, None, *by_weights


class _Sums:
    """The gradients of LayerNorm's and the linear layers' weights, added up chunk by chunk.

    With g the gradient of the output, ``outer`` is g^T GELU(h): the second weight's gradient but
    for the layer scale. That of the layer scale follows from it without the branch itself:
    sum_p g_pc (W2 a_p + b2)_c = sum_k W2_ck (g^T a)_ck + b2_c sum_p g_pc.
    """

    def __init__(self, rows: Tensor, weight1: Tensor, needs: Sequence[bool]) -> None:
        half = rows.dtype in (torch.float16, torch.bfloat16)
        hidden, channels = weight1.shape
        zeros = rows.new_zeros
        dtype = torch.float32 if half else rows.dtype
        self.norm_weight, self.norm_bias, self.outer_sum = zeros((3, channels), dtype=dtype)
        self.inner_sum = zeros(hidden, dtype=dtype)
        needs_outer, needs_inner = needs[6] or needs[8], needs[4]
        self.outer = zeros((channels, hidden), dtype=dtype) if needs_outer else None
        self.inner = zeros((hidden, channels), dtype=dtype) if needs_inner else None

    def add_outer(self, gradient: Tensor, activation: Tensor) -> None:
        self.outer_sum += gradient.sum(0, dtype=self.outer_sum.dtype)
        _add_product(self.outer, gradient.to(activation.dtype), activation)

    def add_inner(self, gradient: Tensor, normalized: Tensor) -> None:
        self.inner_sum += gradient.sum(0, dtype=self.inner_sum.dtype)
        _add_product(self.inner, gradient, normalized)

    def add_norm(self, by_weight: Tensor, by_bias: Tensor) -> None:
        self.norm_weight += by_weight
        self.norm_bias += by_bias

    def gradients(self, weight2: Tensor, bias2: Tensor, gamma: Tensor) -> list[Tensor | None]:
        """Of LayerNorm's weight and bias, both linear layers' weights and biases, and gamma."""
        by_gamma = by_weight2 = None
        if self.outer is not None:
            by_gamma = torch.linalg.vecdot(weight2.to(self.outer.dtype), self.outer)
            by_gamma += bias2 * self.outer_sum
            by_weight2 = self.outer.mul_(gamma[:, None])
        by_bias2 = gamma * self.outer_sum
        norm = [self.norm_weight, self.norm_bias]
        return [*norm, self.inner, self.inner_sum, by_weight2, by_bias2, by_gamma]


def _differentiable_gradients(
    ctx: Any, gradient: Tensor, x: Tensor, keep: Tensor | None, weights: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    needs_x, _, _, *needs = ctx.needs_input_grad
    wanted = [t for t, needed in zip((x, *weights), (needs_x, *needs), strict=True) if needed]
    dw_weight, dw_bias, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma = weights
    cast = dict(dtype=ctx.autocast, enabled=ctx.autocast is not None, cache_enabled=False)
    with torch.autocast(x.device.type, **cast):
        branch = _convolve(x, dw_weight, dw_bias).permute(0, 2, 3, 1)
        branch = F.layer_norm(branch, norm_weight.shape, norm_weight, norm_bias, ctx.eps)
        branch = F.linear(F.gelu(F.linear(branch, weight1, bias1)), weight2, bias2)
        output = _add_branch(x, branch, gamma, keep)
    found = iter(torch.autograd.grad(output, wanted, gradient, create_graph=True))
    by_x = next(found) if needs_x else None
    return by_x, None, None, *(next(found) if needed else None for needed in needs)


def _add_branch(x: Tensor, branch: Tensor, gamma: Tensor, keep: Tensor | None) -> Tensor:
    branch = (gamma * branch).permute(0, 3, 1, 2)
    return x + (branch if keep is None else branch * keep.view(-1, 1, 1, 1))


def _is_ordinary(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a module is nothing but computing with its weight and bias."""
    return type(module) is kind and not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _is_transformed() -> bool:
    """Whether something wants to see, or to transform, the single operations."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or _has_any_global_hook()
    )


def _is_overridden(tensors: Sequence[Tensor]) -> bool:
    """Whether tensor subclasses or modes take torch's functions over.

    ``torch.set_default_device`` is such a mode, too, but changes nothing for given tensors.
    """
    modes = torch.overrides._get_current_function_mode_stack()
    return any(not isinstance(mode, DeviceContext) for mode in modes) or any(
        type(tensor) not in (Tensor, nn.Parameter) for tensor in tensors
    )


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    kind = x.device.type
    is_on = x.dtype != torch.float64 and torch.amp.is_autocast_available(kind)
    return torch.get_autocast_dtype(kind) if is_on and torch.is_autocast_enabled(kind) else None


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


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))


def _normalize(
    rows: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNorm in the precision of its weight: the result, mean and 1 / standard deviation."""
    return torch.native_layer_norm(rows.to(weight.dtype), weight.shape, weight, bias, eps)


def _chunks(rows: Tensor, hidden: int) -> Iterator[slice]:
    is_cpu = rows.device.type == 'cpu'
    size = CPU_CHUNK * torch.get_num_threads() if is_cpu else DEVICE_CHUNK
    count = max(1, len(rows) * hidden * rows.element_size() // size)
    for index in range(count):
        yield slice(len(rows) * index // count, len(rows) * (index + 1) // count)


def _add_product(total: Tensor | None, left: Tensor, right: Tensor) -> None:
    """Add left^T right, in the precision of the total."""
    if total is None:
        return
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right)
    else:
        total += left.t() @ right


def _to_rows(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B H W, C), without a copy where the memory is ``channels_last``."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _from_rows(rows: Tensor, like: Tensor) -> Tensor:
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)

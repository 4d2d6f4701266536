"""The ConvNeXt-style block as one differentiable function, with its backward pass by hand.

Autograd keeps about twelve maps of a block's width for each block. :class:`BlockFunction` keeps
two, its input and the depthwise convolution's output, and on small maps the hidden layer as well.
:class:`DifferentiatedBlock`, for a block whose gradient is known beforehand, keeps none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._device import DeviceContext

from revcol_backbone.block.block_call import BlockCall, convolve, output_dtype
from revcol_backbone.block.perceptron import PerceptronSums

_MODULES = {'dwconv': nn.Conv2d, 'norm': nn.LayerNorm, 'pwconv1': nn.Linear, 'pwconv2': nn.Linear}


@dataclass(frozen=True)
class KnownOutput:
    """What is known of a block's output before it is computed, as in a memory-saving backward pass.

    Args:
        value: The output, if it was kept.
        gradient: The gradient that the output is going to get.
        needs_value: Whether the output's values are used; if not, they are NaN. Only with a
            gradient.
    """

    value: Tensor | None = None
    gradient: Tensor | None = None
    needs_value: bool = True


class BlockModules(Protocol):
    """What a block consists of, and what is known of its output if anything."""

    dwconv: nn.Conv2d
    norm: nn.LayerNorm
    pwconv1: nn.Linear
    pwconv2: nn.Linear
    gamma: nn.Parameter
    known: KnownOutput | None


def apply_block(block: BlockModules, x: Tensor, keep: Tensor | None) -> Tensor:
    """Apply a block as one function, or by its modules where those do more than compute.

    The modules run one by one where hooks, wrappers, parametrizations or quantized weights hang on
    them, under compilers, tracers, ``torch.func`` and forward-mode differentiation, and where a
    forward pass on the meta device counts what they do.

    Args:
        block: A :class:`~revcol_backbone.level.Block`.
        x: Features of shape (B, C, H, W).
        keep: Drop path factors of shape (B,), or ``None``.

    Returns:
        Features of shape (B, C, H, W).
    """
    modules = [getattr(block, name) for name in _MODULES]
    is_plain = all(map(_is_ordinary, modules, _MODULES.values())) and not _is_transformed()
    if is_plain and (torch.is_grad_enabled() or not x.is_meta):
        weights = [tensor for module in modules for tensor in (module.weight, module.bias)]
        tensors = (x, *weights, block.gamma)
        if not _is_overridden(tensors):
            arguments = (x, keep, block.norm.eps, *tensors[1:])
            known = block.known or KnownOutput()
            if torch.is_grad_enabled() and _fits(known.gradient, block, x):
                return DifferentiatedBlock.apply(known.gradient, known.needs_value, *arguments)
            value = known.value if _fits(known.value, block, x) else None
            return BlockFunction.apply(torch.is_grad_enabled(), value, *arguments)
    branch = block.dwconv(x).permute(0, 2, 3, 1)
    branch = block.pwconv2(F.gelu(block.pwconv1(block.norm(branch))))
    return _add_branch(x, branch, block.gamma, keep)


class BlockFunction(torch.autograd.Function):
    """x + keep * gamma * (W2 GELU(W1 LN(dwconv(x)) + b1) + b2), with gradients of any order.

    Its arguments are whether a graph is recorded, the result if it is known, x, keep, LayerNorm's
    eps, and the weights and biases of the modules in order, with gamma at the end.
    """

    @staticmethod
    def forward(
        ctx: Any,
        is_recorded: bool,
        value: Tensor | None,
        x: Tensor,
        keep: Tensor | None,
        eps: float,
        *weights: Tensor,
    ) -> Tensor:
        """Compute the block, or only what its backward pass needs where the result is known."""
        is_recorded = is_recorded and any(ctx.needs_input_grad)
        if value is not None and not is_recorded:
            return value.detach()
        call = BlockCall(x, keep, eps, _autocast_dtype(x), weights)
        hidden = None
        with _without_autocast(x):
            mixed = call.mix()
            if value is None:
                hidden = call.perceptron.hidden_to_keep(mixed) if is_recorded else None
                result = call.new_rows()
                call.perceptron.forward(mixed, call.rows(), call.factors, result, hidden)
                value = call.output(result)
        ctx.eps, ctx.autocast = eps, _autocast_dtype(x)
        ctx.save_for_backward(x, keep, mixed, hidden, *weights)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients; where a graph of them is wanted, by autograd."""
        x, keep, mixed, hidden, *weights = ctx.saved_tensors
        _, _, needs_x, _, _, *needs = ctx.needs_input_grad
        if torch.is_grad_enabled():
            return _differentiable_gradients(ctx, gradient, x, keep, weights)
        call = BlockCall(x, keep, ctx.eps, ctx.autocast, weights)
        sums, by_mixed = PerceptronSums(call.perceptron, needs[2:]), torch.empty_like(mixed)
        incoming = call.chosen_rows(gradient)
        call.perceptron.backward(incoming, mixed, call.factors, sums, by_mixed, hidden)
        by_x, *found = call.gradients(by_mixed, gradient, sums, needs_x, needs)
        return None, None, by_x, None, None, *found


class DifferentiatedBlock(torch.autograd.Function):
    """The block and its gradients in one pass, which computes the hidden layer once.

    Its arguments are the gradient that the output is going to get, whether its values are needed,
    and those of :class:`BlockFunction` from x on.
    """

    @staticmethod
    def forward(
        ctx: Any,
        expected: Tensor,
        needs_value: bool,
        x: Tensor,
        keep: Tensor | None,
        eps: float,
        *weights: Tensor,
    ) -> Tensor:
        """Compute the block and its gradients."""
        _, _, needs_x, _, _, *needs = ctx.needs_input_grad
        call = BlockCall(x, keep, eps, _autocast_dtype(x), weights)
        with _without_autocast(x):
            mixed, result = call.mix(), call.new_rows() if needs_value else None
            sums = PerceptronSums(call.perceptron, needs[2:])
            incoming = call.chosen_rows(expected)
            call.perceptron.backward(
                incoming, mixed, call.factors, sums, mixed, None, call.rows(), result
            )
            ctx.found = call.gradients(mixed, expected, sums, needs_x, needs)
        ctx.expected = expected
        return call.output(result)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients."""
        if torch.is_grad_enabled() or gradient.data_ptr() != ctx.expected.data_ptr():
            raise RuntimeError(
                'a block got another gradient than the one with which it was differentiated.'
            )
        by_x, *found = ctx.found
        return None, None, by_x, None, None, *found


def _differentiable_gradients(
    ctx: Any, gradient: Tensor, x: Tensor, keep: Tensor | None, weights: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    _, _, needs_x, _, _, *needs = ctx.needs_input_grad
    wanted = [t for t, needed in zip((x, *weights), (needs_x, *needs), strict=True) if needed]
    dw_weight, dw_bias, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma = weights
    autocast = _without_autocast(x)
    if ctx.autocast is not None:
        autocast = torch.autocast(x.device.type, dtype=ctx.autocast, cache_enabled=False)
    with autocast:
        branch = convolve(x, dw_weight, dw_bias).permute(0, 2, 3, 1)
        branch = F.layer_norm(branch, norm_weight.shape, norm_weight, norm_bias, ctx.eps)
        branch = F.linear(F.gelu(F.linear(branch, weight1, bias1)), weight2, bias2)
        output = _add_branch(x, branch, gamma, keep)
    found = iter(torch.autograd.grad(output, wanted, gradient, create_graph=True))
    by_x = next(found) if needs_x else None
    return None, None, by_x, None, None, *(next(found) if needed else None for needed in needs)


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


def _fits(known: Tensor | None, block: BlockModules, x: Tensor) -> bool:
    """Whether a tensor can be the block's output or its gradient."""
    dtype = output_dtype(x, block.gamma)
    return known is not None and known.shape == x.shape and known.dtype == dtype


def _without_autocast(x: Tensor) -> AbstractContextManager:
    kind = x.device.type
    is_available = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind, enabled=False) if is_available else nullcontext()


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    kind = x.device.type
    is_on = x.dtype != torch.float64 and torch.amp.is_autocast_available(kind)
    return torch.get_autocast_dtype(kind) if is_on and torch.is_autocast_enabled(kind) else None

"""The shortcut between columns: the equation of a level, its inverse, and the bound of alpha."""

from __future__ import annotations

import torch
from torch import Tensor

ALPHA_INIT = 0.5
ALPHA_MIN = 1e-3


def add_shortcut(fused: Tensor, alpha: Tensor, previous: Tensor) -> Tensor:
    """The equation: c[l,i] from F[l,i](.), alpha and c[l,i-1].

    Raises:
        ValueError: Alpha is not of the level's shape, or F's result is not.
    """
    if not torch.jit.is_tracing():
        check_alpha(alpha, previous)
        if fused.shape != previous.shape:
            raise ValueError(
                f'a level gave a tensor of shape {tuple(fused.shape)}, but has the shape '
                f'{tuple(previous.shape)} in the column before; give both the same shape.'
            )
    return fused + bounded_alpha(alpha) * previous


def leave_out_shortcut(fused: Tensor, alpha: Tensor) -> Tensor:
    """The equation in the first column: F[l,1](.) alone, in the precision of the columns after.

    Raises:
        ValueError: Alpha is not of the level's shape.
    """
    if not torch.jit.is_tracing():
        check_alpha(alpha, fused)
        if torch.is_grad_enabled() and alpha.requires_grad:
            # Data-parallel training wants every parameter in the graph.
            return fused + 0 * alpha
    return fused.to(torch.promote_types(fused.dtype, alpha.dtype))


def invert_shortcut(output: Tensor, fused: Tensor, alpha: Tensor) -> Tensor:
    """Its inverse: c[l,i-1] from c[l,i], F[l,i](.) and alpha."""
    return (output - fused).div_(bounded_alpha(alpha))


def check_alpha(alpha: Tensor, level: Tensor) -> None:
    """Raise ``ValueError`` where alpha's shape does not broadcast to that of its level."""
    sizes = level.shape[level.ndim - alpha.ndim :] if alpha.ndim <= level.ndim else ()
    if len(sizes) != alpha.ndim or not all(
        own == 1 or own == size for own, size in zip(alpha.shape, sizes, strict=True)
    ):
        raise ValueError(
            f'an alpha of shape {tuple(alpha.shape)} does not fit its level of shape '
            f'{tuple(level.shape)}; give alpha_shapes such as (1, C, 1, 1) for feature maps '
            '(B, C, H, W), or (C,) for tokens (B, N, C).'
        )


def bounded_alpha(alpha: Tensor) -> Tensor:
    """The shortcut factor that is used: ``alpha``, kept at least 1e-3 away from 0.

    The sign stays, and 0 counts as positive, so that the inverse can always divide. A channel that
    has reached the bound gets no gradient that would push it through to the other sign, while one
    that leads away from 0 passes. This is the published training in effect, where the parameter
    itself is put back onto the bound before every forward pass: a published alpha that rests there
    does so because its gradient pushes against the bound, and let through, fine-tuning would do in
    its first steps what pre-training never allowed. Unlike there the parameter is never written,
    which would change a model by using it, and 0 does not stay 0.
    """
    if torch.is_grad_enabled() and alpha.requires_grad and not torch.jit.is_tracing():
        return _BoundedAlpha.apply(alpha)
    return _bound(alpha)


def bounded_alpha_gradient(alpha: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of ``alpha`` from that of :func:`bounded_alpha`."""
    # A step of descent goes against the gradient.
    is_stopped = (alpha.abs() <= ALPHA_MIN) & torch.where(alpha < 0, gradient < 0, gradient > 0)
    return gradient.masked_fill(is_stopped, 0)


class _BoundedAlpha(torch.autograd.Function):
    @staticmethod
    def forward(ctx, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(alpha)
        return _bound(alpha)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (alpha,) = ctx.saved_tensors
        return bounded_alpha_gradient(alpha, gradient)


def _bound(alpha: Tensor) -> Tensor:
    return torch.where(alpha < 0, alpha.clamp(max=-ALPHA_MIN), alpha.clamp(min=ALPHA_MIN))

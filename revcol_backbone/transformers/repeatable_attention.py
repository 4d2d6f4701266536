"""Attention with a learned bias that is computed by one kernel in both directions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def repeatable_attention(x: Tensor, is_training: bool) -> AbstractContextManager:
    """Choose a kernel for ``scaled_dot_product_attention`` that can be repeated with gradients.

    On CPUs the fused kernel gives no gradient of a bias. PyTorch would use it in the forward pass,
    which saves memory by having no gradients, and the plain kernel in the walk back. They round
    differently, in bfloat16 by so much that undoing columns would lose accuracy; so training on a
    CPU uses the plain one throughout. Elsewhere the choice is PyTorch's.
    """
    if is_training and x.device.type == 'cpu':
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()

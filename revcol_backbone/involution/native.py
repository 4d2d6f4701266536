"""The involution on CPUs as C++ functions, which are compiled on the machine that runs them.

Each function is one parallel region over a few rows at a time, and keeps its sums in registers,
where :mod:`.shifted` has a parallel region for every window position of every tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from revcol_backbone.native.compiling import native_library

_is_used = False


def use_native(enabled: bool = True) -> None:
    """Run every involution of this process by C++ functions, in float32 on CPUs.

    They are compiled at the first call on a machine, as for ``RevCol.switch_to_deploy``, and serve
    training, too. Other dtypes and devices are not affected.

    Args:
        enabled: ``False`` goes back to PyTorch's operators.

    Raises:
        RuntimeError: The machine is not one for it, has no compiler, or the compiler fails.
        OSError: What was compiled cannot be written.
    """
    global _is_used
    if enabled:
        native_library()
    _is_used = enabled


def takes(tensor: Tensor) -> bool:
    """Whether these functions are to compute with a tensor."""
    return _is_used and tensor.device.type == 'cpu' and tensor.dtype is torch.float32


def aggregate(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Sum every pixel's window, weighted by that pixel's kernel; as :func:`.shifted.aggregate`."""
    return native_library().native_involution(x.contiguous(), kernel.contiguous(), stride)


def input_gradient(
    grad: Tensor, kernel: Tensor, input_shape: tuple[int, ...], stride: int
) -> Tensor:
    """Apply the transpose in the input; as :func:`.shifted.input_gradient`."""
    return native_library().native_involution_input_gradient(
        grad.contiguous(), kernel.contiguous(), input_shape, stride
    )


def kernel_gradient(grad: Tensor, x: Tensor, kernel_shape: tuple[int, ...], stride: int) -> Tensor:
    """Apply the transpose in the kernels; as :func:`.shifted.kernel_gradient`."""
    return native_library().native_involution_kernel_gradient(
        grad.contiguous(), x.contiguous(), kernel_shape, stride
    )

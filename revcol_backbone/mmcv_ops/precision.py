"""The precision operators compute in."""

import torch
from torch import Tensor


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert tensors to the first one's type, or to float32 where that is half or bfloat16.

    torchvision's CPU kernels know no bfloat16, and coordinates above 2048 are not whole in half
    precision; results are rounded once, when they are written to the output.
    """
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return tuple(tensor.to(dtype) for tensor in tensors)

"""CARAFE (Wang et al., 2019), content-aware upsampling, of ``mmcv._ext``.

mmcv's compiled operators need a GPU; these run on every device. The buffers whose names begin with
``r`` hold other layouts for mmcv's own kernels: here only ``rfeatures`` is used, which mmcv hands
from the forward to the backward pass in place of the features.
"""

import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from revcol_backbone.mmcv_ops.precision import at_least_float32


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the upsampled features into ``output``; arguments as :func:`carafe_naive_forward`."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Add the gradients to ``bottom_grad`` and ``mask_grad``."""
    sizes = (kernel_size, group_size, scale_factor)
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, *sizes)


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the upsampled features into ``output``.

    Args:
        features: (B, C, H, W).
        masks: (B, group_size x kernel_size^2, H x scale_factor, W x scale_factor): for each output
            pixel and group of channels the weights of the window around its source pixel.
        output: (B, C, H x scale_factor, W x scale_factor), written.
        kernel_size: Side of the windows, odd.
        group_size: Number of groups of channels.
        scale_factor: Output pixels per source pixel along each axis.
    """
    features, masks = at_least_float32(features, masks)
    wide, weights = _by_pixel(features, masks, group_size, scale_factor)
    weighted = (
        window * weights[:, :, position, None]
        for position, window in enumerate(_shifted(wide, kernel_size))
    )
    output.copy_(functools.reduce(torch.add, weighted).reshape(output.shape))


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Add the gradients to ``bottom_grad`` and ``mask_grad``."""
    features, masks, gradient = at_least_float32(features, masks, top_grad)
    wide, weights = _by_pixel(features, masks, group_size, scale_factor)
    gradient = gradient.reshape(*wide.shape[:4], scale_factor, wide.shape[5], scale_factor)
    padded = F.pad(features.new_zeros(features.shape), (kernel_size // 2,) * 4)
    height, width = features.shape[2:]
    mask_parts = mask_grad.view(weights.shape)
    for position, window in enumerate(_shifted(wide, kernel_size)):
        mask_parts[:, :, position] += (window * gradient).sum(2).to(mask_grad.dtype)
        share = (gradient * weights[:, :, position, None]).sum((4, 6)).view(features.shape)
        row, column = divmod(position, kernel_size)
        padded[:, :, row : row + height, column : column + width] += share
    half = kernel_size // 2
    bottom_grad.add_(padded[:, :, half : half + height, half : half + width])


def _by_pixel(features: Tensor, masks: Tensor, groups: int, scale: int) -> tuple[Tensor, Tensor]:
    """Features (B, G, C / G, H, 1, W, 1) and masks (B, G, K * K, H, scale, W, scale)."""
    batch, channels, height, width = features.shape
    wide = features.reshape(batch, groups, channels // groups, height, 1, width, 1)
    return wide, masks.reshape(batch, groups, -1, height, scale, width, scale)


def _shifted(wide: Tensor, kernel_size: int) -> Iterator[Tensor]:
    """Each position of the window, row by row, for all pixels at once; zeros outside."""
    half = kernel_size // 2
    height, width = wide.shape[3], wide.shape[5]
    padded = F.pad(wide, (0, 0, half, half, 0, 0, half, half))
    for row in range(kernel_size):
        for column in range(kernel_size):
            yield padded[:, :, :, row : row + height, :, column : column + width]

"""The two steps of masked convolution (Cao et al., 2019) of ``mmcv._ext``.

mmcv multiplies between them. mmdet's guided anchoring convolves so in testing, at the places where
an object may be. mmcv's compiled operators need a GPU; these run on every device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the windows at the chosen places into ``col``.

    Args:
        im: (1, C, H, W) features.
        mask_h_idx: (M,) rows of the chosen places.
        mask_w_idx: (M,) their columns.
        col: (C x kernel_h x kernel_w, M), written; zeros where a window is outside.
        kernel_h: Height of the windows.
        kernel_w: Width of the windows.
        pad_h: Rows from a window's start to its place.
        pad_w: Columns from a window's start to its place.
    """
    padded = F.pad(im[0], (pad_w, kernel_w, pad_h, kernel_h))
    rows = mask_h_idx + torch.arange(kernel_h, device=im.device)[:, None]
    columns = mask_w_idx + torch.arange(kernel_w, device=im.device)[:, None]
    col.copy_(padded[:, rows[:, None], columns[None]].reshape(col.shape))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write columns to the chosen places of an image; the others stay as they are.

    Args:
        col: (channels, M).
        mask_h_idx: (M,) rows of the chosen places.
        mask_w_idx: (M,) their columns.
        im: (1, channels, height, width), written.
        height: Height of ``im``.
        width: Width of ``im``.
        channels: Channels of ``im``.
    """
    im.view(channels, height, width)[:, mask_h_idx, mask_w_idx] = col.to(im.dtype)

"""The masks of point-wise spatial attention (PSANet, Zhao et al., 2018) of ``mmcv._ext``."""

import torch
import torch.nn.functional as F
from torch import Tensor

COLLECT = 0  # mmcv's number; the other type, 1, is distribute


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Lay the mask of every pixel over the feature map, centered at that pixel.

    Args:
        input: (B, h_mask x w_mask, H, W): the mask of each pixel.
        output: (B, H x W, H, W), written. Collect: channel p at pixel q is what the mask of q has
            at p. Distribute: what the mask of p has at q. Zeros where a mask does not reach.
        psa_type: 0 for collect, 1 for distribute.
        num_: B.
        h_feature: H.
        w_feature: W.
        h_mask: Height of the masks.
        w_mask: Width of the masks.
        half_h_mask: Row of a mask that lies at its pixel.
        half_w_mask: Column of a mask that lies at its pixel.
    """
    size = (h_feature, w_feature)
    masks = input.view(num_, h_mask, w_mask, *size)
    rows = _offsets(h_feature, h_feature, half_h_mask, h_mask, -1, input.device)
    columns = _offsets(w_feature, w_feature, half_w_mask, w_mask, -1, input.device)
    full = output.new_empty(num_, *size, *size)
    _pick(masks, rows, columns, full)
    pixels = h_feature * w_feature
    full = full.view(num_, pixels, pixels)
    output.copy_((full if psa_type == COLLECT else full.mT).reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the gradient of :func:`psamask_forward`'s input into ``grad_input``."""
    size = (h_feature, w_feature)
    pixels = h_feature * w_feature
    gradient = grad_output.reshape(num_, pixels, pixels)
    gradient = (gradient if psa_type == COLLECT else gradient.mT).reshape(num_, *size, *size)
    rows = _offsets(h_mask, h_feature, half_h_mask, h_feature, 1, grad_output.device)
    columns = _offsets(w_mask, w_feature, half_w_mask, w_feature, 1, grad_output.device)
    _pick(gradient, rows, columns, grad_input.view(num_, h_mask, w_mask, *size))


def _offsets(
    targets: int, pixels: int, half: int, sources: int, sign: int, device: torch.device
) -> Tensor:
    """For target t and pixel p along one axis the source, or the number of sources for none.

    Forward (sign -1) a target is a pixel and its source the mask's place t - p + half; backward
    (sign 1) a target is the mask's place and its source the pixel t + p - half.
    """
    target = torch.arange(targets, device=device)[:, None]
    source = target + sign * (torch.arange(pixels, device=device) - half)
    return torch.where((source >= 0) & (source < sources), source, sources)


def _pick(source: Tensor, rows: Tensor, columns: Tensor, out: Tensor) -> None:
    """Write out[b, r, c, h, w] = source[b, rows[r, h], columns[c, w], h, w], 0 for no source."""
    padded = F.pad(source, (0, 0, 0, 0, 0, 1, 0, 1))
    height = torch.arange(source.size(3), device=source.device)[:, None]
    width = torch.arange(source.size(4), device=source.device)
    # Row by row, because the index of all rows at once takes more memory than the output.
    for index, row in enumerate(rows):
        out[:, index] = padded[:, row[None, :, None], columns[:, None], height, width]

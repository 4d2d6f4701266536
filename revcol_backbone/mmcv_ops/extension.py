"""The contents of ``mmcv._ext``: which operators are provided, and what the others answer."""

from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

import torch
import torchvision

from revcol_backbone.mmcv_ops.bbox_overlaps import bbox_overlaps
from revcol_backbone.mmcv_ops.carafe import (
    carafe_backward,
    carafe_forward,
    carafe_naive_backward,
    carafe_naive_forward,
)
from revcol_backbone.mmcv_ops.deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from revcol_backbone.mmcv_ops.deform_roi_pool import (
    deform_roi_pool_backward,
    deform_roi_pool_forward,
)
from revcol_backbone.mmcv_ops.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from revcol_backbone.mmcv_ops.masked_conv import masked_col2im_forward, masked_im2col_forward
from revcol_backbone.mmcv_ops.missing import refusal, refuse_layers_without
from revcol_backbone.mmcv_ops.multi_scale_deform_attn import (
    ms_deform_attn_backward,
    ms_deform_attn_forward,
)
from revcol_backbone.mmcv_ops.nms import nms, nms_match, softnms
from revcol_backbone.mmcv_ops.psamask import psamask_backward, psamask_forward
from revcol_backbone.mmcv_ops.roi_align import roi_align_backward, roi_align_forward
from revcol_backbone.mmcv_ops.roi_pool import roi_pool_backward, roi_pool_forward
from revcol_backbone.mmcv_ops.rotated_boxes import box_iou_rotated, nms_rotated

OPERATORS: dict[str, Callable] = {
    operator.__name__: operator
    for operator in (
        nms,
        softnms,
        nms_match,
        bbox_overlaps,
        box_iou_rotated,
        nms_rotated,
        roi_align_forward,
        roi_align_backward,
        roi_pool_forward,
        roi_pool_backward,
        deform_roi_pool_forward,
        deform_roi_pool_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
        softmax_focal_loss_forward,
        softmax_focal_loss_backward,
        deform_conv_forward,
        deform_conv_backward_input,
        deform_conv_backward_parameters,
        modulated_deform_conv_forward,
        modulated_deform_conv_backward,
        ms_deform_attn_forward,
        ms_deform_attn_backward,
        masked_im2col_forward,
        masked_col2im_forward,
        psamask_forward,
        psamask_backward,
        carafe_forward,
        carafe_backward,
        carafe_naive_forward,
        carafe_naive_backward,
    )
}


def populate(module: ModuleType) -> None:
    """Give a module every name that mmcv may ask ``mmcv._ext`` for.

    Operators of :data:`OPERATORS` work. Every other public name is a function that raises
    ``NotImplementedError`` when called, and so do layers that need one when a model is built.
    """
    vars(module).update(
        OPERATORS,
        get_compiler_version=get_compiler_version,
        get_compiling_cuda_version=get_compiling_cuda_version,
        __getattr__=_stand_for,
    )
    refuse_layers_without(OPERATORS)


def get_compiler_version() -> str:
    """What stands for mmcv's C++ compiler in environment reports."""
    return f'not compiled (torchvision {torchvision.__version__} through revcol_backbone.mmcv_ops)'


def get_compiling_cuda_version() -> str:
    """The CUDA version torchvision's kernels were compiled with, or 'not available'."""
    version = torch.ops.torchvision._cuda_version()
    # 13020 stands for 13.2, and -1 for a build without CUDA.
    return f'{version // 1000}.{version % 1000 // 10}' if version > 0 else 'not available'


def _stand_for(name: str) -> Callable[..., NoReturn]:
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute '{name}'")
    return refusal(name)

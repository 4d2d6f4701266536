"""The contents of ``mmcv._ext``: which operators are provided, and what the others answer."""

from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

import torch
import torchvision

from .deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .multi_scale_deform_attn import ms_deform_attn_backward, ms_deform_attn_forward
from .nms import nms, nms_match, softnms
from .roi_align import roi_align_backward, roi_align_forward

OPERATORS: dict[str, Callable] = {
    operator.__name__: operator
    for operator in (
        nms,
        softnms,
        nms_match,
        roi_align_forward,
        roi_align_backward,
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
    )
}
COMPILED_MMCV = 'https://mmcv.readthedocs.io/en/latest/get_started/build.html'


def populate(module: ModuleType) -> None:
    """Gives a module every name that mmcv may ask ``mmcv._ext`` for.

    Operators of :data:`OPERATORS` work; every other public name is a function that raises
    ``NotImplementedError`` when called, since ``mmcv.ops`` looks all its operators up at import.
    """
    vars(module).update(OPERATORS)
    module.get_compiler_version = get_compiler_version
    module.get_compiling_cuda_version = get_compiling_cuda_version
    module.__getattr__ = _refuse


def get_compiler_version() -> str:
    """What stands for mmcv's C++ compiler in environment reports."""
    return f'not compiled (torchvision {torchvision.__version__} through revcol_backbone.mmcv_ops)'


def get_compiling_cuda_version() -> str:
    """The CUDA version torchvision's kernels were compiled with, or 'not available'."""
    version = torch.ops.torchvision._cuda_version()
    # 13020 stands for 13.2, and -1 for a build without CUDA.
    return f'{version // 1000}.{version % 1000 // 10}' if version > 0 else 'not available'


def _refuse(name: str) -> Callable[..., NoReturn]:
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute '{name}'")

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(
            f"revcol_backbone does not provide mmcv's operator '{name}' beside mmcv-lite: "
            f'install a compiled mmcv to use it ({COMPILED_MMCV}).'
        )

    refuse.__name__ = name
    return refuse

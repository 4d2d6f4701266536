"""mmcv's own CUDA kernels, read from its source distribution and compiled for the CPU.

A kernel is C++ but for a few words of CUDA, which a small header defines: one thread then runs all
iterations of a kernel's loop. ``build`` takes seconds, because no header of PyTorch is needed.
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import torch
from torch import Tensor

# The headers of mmcv that hold the kernels, and the kernels by the names they get here.
HEADERS = (
    'bbox_overlaps_cuda_kernel.cuh',
    'carafe_naive_cuda_kernel.cuh',
    'deform_conv_cuda_kernel.cuh',
    'deform_roi_pool_cuda_kernel.cuh',
    'masked_conv2d_cuda_kernel.cuh',
    'modulated_deform_conv_cuda_kernel.cuh',
    'ms_deform_attn_cuda_kernel.cuh',
    'psamask_cuda_kernel.cuh',
    'roi_align_cuda_kernel.cuh',
    'roi_pool_cuda_kernel.cuh',
    'sigmoid_focal_loss_cuda_kernel.cuh',
    'softmax_focal_loss_cuda_kernel.cuh',
)
KERNELS = {
    'bbox_overlaps': 'bbox_overlaps_cuda_kernel',
    'box_iou_rotated': 'box_iou_rotated',
    'carafe': 'carafe_naive_forward_cuda_kernel',
    'carafe_backward': 'carafe_naive_backward_cuda_kernel',
    'deform_im2col': 'deformable_im2col_gpu_kernel',
    'deform_col2im': 'deformable_col2im_gpu_kernel',
    'deform_col2im_coord': 'deformable_col2im_coord_gpu_kernel',
    'deform_roi_pool': 'deform_roi_pool_forward_cuda_kernel',
    'deform_roi_pool_backward': 'deform_roi_pool_backward_cuda_kernel',
    'masked_im2col': 'MaskedIm2colForward',
    'masked_col2im': 'MaskedCol2imForward',
    'modulated_im2col': 'modulated_deformable_im2col_gpu_kernel',
    'modulated_col2im': 'modulated_deformable_col2im_gpu_kernel',
    'modulated_col2im_coord': 'modulated_deformable_col2im_coord_gpu_kernel',
    'ms_deform_attn': 'ms_deformable_im2col_gpu_kernel',
    'ms_deform_attn_backward': 'ms_deformable_col2im_gpu_kernel_gm',
    'psamask_collect': 'psamask_collect_forward_cuda',
    'psamask_distribute': 'psamask_distribute_forward_cuda',
    'psamask_collect_backward': 'psamask_collect_backward_cuda',
    'psamask_distribute_backward': 'psamask_distribute_backward_cuda',
    'roi_align': 'roi_align_forward_cuda_kernel',
    'roi_align_backward': 'roi_align_backward_cuda_kernel',
    'roi_pool': 'roi_pool_forward_cuda_kernel',
    'roi_pool_backward': 'roi_pool_backward_cuda_kernel',
    'sigmoid_focal_loss': 'sigmoid_focal_loss_forward_cuda_kernel',
    'sigmoid_focal_loss_backward': 'sigmoid_focal_loss_backward_cuda_kernel',
    'softmax_focal_loss': 'softmax_focal_loss_forward_cuda_kernel',
    'softmax_focal_loss_backward1': 'softmax_focal_loss_backward_cuda1_kernel',
    'softmax_focal_loss_backward2': 'softmax_focal_loss_backward_cuda2_kernel',
}
CUDA_WORDS = """
#pragma once
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
using std::max;
using std::min;
#define __global__
#define __device__
#define __host__
#define __shared__
#define __forceinline__ inline
#define __syncthreads()
#define CUDA_KERNEL_LOOP(i, n) for (int i = 0; i < (n); ++i)
struct float4 { float x, y, z, w; };
static const struct { unsigned x, y, z; } blockIdx = {0, 0, 0}, threadIdx = {0, 0, 0};
static const struct { unsigned x, y, z; } gridDim = {1, 1, 1}, blockDim = {1, 1, 1};
template <typename T> void atomicAdd(T* sum, T value) { *sum += value; }
"""
# What mmcv's kernels of rotated boxes call, and would call with single precision.
ROTATED_BOXES = """
#include "box_iou_rotated_utils.hpp"
template <typename T>
void box_iou_rotated(int rows, int columns, const T* first, const T* second, T* found, int mode) {
    for (int i = 0; i < rows * columns; ++i)
        found[i] =
            single_box_iou_rotated<T>(first + 5 * (i / columns), second + 5 * (i % columns), mode);
}
"""


class Kernels:
    """The compiled kernels in double precision, called by the names of ``KERNELS``.

    Args:
        library: The file that :func:`build` wrote.
    """

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def __call__(self, name: str, *arguments: Tensor | float | bool | None) -> None:
        """Run a kernel on contiguous CPU tensors; ``None`` is a null pointer."""
        address = ctypes.c_void_p.in_dll(self._library, f'peer_{name}').value
        passed = [_as_c(argument) for argument in arguments]
        ctypes.CFUNCTYPE(None, *map(type, passed))(address)(*passed)


def build(source: Path, folder: Path) -> Kernels:
    """Compile the kernels.

    Args:
        source: The unpacked source distribution of mmcv.
        folder: Where to write what is generated.
    """
    (folder / 'cuda.h').write_text(CUDA_WORDS)
    (folder / 'pytorch_cuda_helper.hpp').write_text('#include "common_cuda_helper.hpp"\n')
    includes = ''.join(f'#include "{header}"\n' for header in HEADERS)
    pointers = ''.join(
        f'auto* peer_{name} = &{kernel}<double>;\n' for name, kernel in KERNELS.items()
    )
    code = folder / 'kernels.cpp'
    code.write_text(f'#include "cuda.h"\n{includes}{ROTATED_BOXES}extern "C" {{\n{pointers}}}\n')
    library = folder / 'kernels.so'
    command = ['g++', '-std=c++17', '-O1', '-w', '-shared', '-fPIC', f'-I{folder}']
    common = source / 'mmcv/ops/csrc/common'
    command += [f'-I{common}', f'-I{common}/cuda', str(code), '-o', str(library)]
    subprocess.run(command, check=True)
    return Kernels(library)


def _as_c(argument: Tensor | float | bool | None) -> ctypes._SimpleCData:
    if argument is None:
        return ctypes.c_void_p(None)
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        assert argument.dtype in (torch.double, torch.int64, torch.int32)
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, bool):
        return ctypes.c_bool(argument)
    return ctypes.c_int(argument) if isinstance(argument, int) else ctypes.c_double(argument)

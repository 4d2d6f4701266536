"""The Triton kernels: their arithmetic by interpretation, their compilation, and a real GPU's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from revcol_backbone.involution import involution
from tests.device import DEVICE
from tests.involution.triton_cases import CASES, relative_errors

triton = pytest.importorskip('triton')
ROOT = Path(__file__).parents[2]
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5, torch.float16: 1e-3}
needs_gpu = pytest.mark.skipif(
    DEVICE.type != 'cuda',
    reason='runs on a GPU: `bash tools/run_tests.sh --device cuda`',
)


def test_interpreted_kernels_agree_with_the_shifted_form():
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'tests.involution.triton_cases'],
        cwd=ROOT,
        env=dict(os.environ, TRITON_INTERPRET='1', OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    for case, errors in zip(CASES, json.loads(result.stdout.splitlines()[-1]), strict=True):
        assert all(error <= TOLERANCE[case[-1]] for error in errors.values()), (case, errors)


@pytest.mark.parametrize('name', ['_aggregate', '_input_gradient', '_kernel_gradient'])
@pytest.mark.parametrize('dtype', ['fp32', 'fp16', 'fp64'])
def test_kernels_compile_for_a_gpu_without_one(name, dtype):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from revcol_backbone.involution import triton_kernels

    kernel = getattr(triton_kernels, f'{name}_kernel')
    total = triton.language.float64 if dtype == 'fp64' else triton.language.float32
    constants = dict(stride=2, size=7, group_width=16, channels=16, sum_dtype=total)
    constants['run'] = triton_kernels.PIXELS
    arguments = [name for name in kernel.arg_names if name not in constants]
    signature = {
        argument: f'*{dtype}' if index < 3 else 'i32' for index, argument in enumerate(arguments)
    } | dict.fromkeys(constants, 'constexpr')
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget('cuda', 80, 32))
    assert 'ld.global' in compiled.asm['ptx']


@needs_gpu
def test_compiled_kernels_agree_with_the_shifted_form():
    for case in (*CASES, (2, 64, 56, 57, 7, 1, torch.float32)):
        errors = relative_errors(DEVICE, case)
        assert all(error <= TOLERANCE[case[-1]] for error in errors.values()), (case, errors)


@needs_gpu
def test_a_gpu_gives_the_results_of_the_cpu():
    x = torch.randn(2, 32, 15, 17, dtype=torch.double)
    kernel = torch.randn(2, 2, 49, 8, 9, dtype=torch.double)
    results = []
    for device in ('cpu', DEVICE):
        inputs = [tensor.to(device).detach().requires_grad_() for tensor in (x, kernel)]
        out = involution(*inputs, stride=2)
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for cpu, gpu in zip(*results, strict=True):
        torch.testing.assert_close(cpu, gpu.cpu())

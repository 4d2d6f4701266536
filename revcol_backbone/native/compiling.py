"""Compiling the C++ functions with the machine's compiler, once for each PyTorch and processor."""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.onednn import fuses

FOLDER = Path(__file__).parent
NAMES = ('block.cpp', 'projection.cpp', 'perceptron.cpp', 'involution.cpp')
SOURCES = [FOLDER / name for name in NAMES]
OTHERWISE = 'do without switch_to_deploy(native=True) and use_native()'
# Vector instructions as PyTorch names and uses them.
INSTRUCTIONS = {
    'AVX2': ['-mavx2', '-mfma', '-mf16c'],
    'AVX512': ['-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mfma', '-mf16c'],
}


@functools.cache
def native_library() -> Any:
    """Compile the functions if that was not done before, and load them.

    The result is kept in ``TORCH_EXTENSIONS_DIR``, by default ``~/.cache/torch_extensions``, for
    each version of PyTorch and kind of processor; the compiler is ``CXX``, by default ``c++``.

    Returns:
        PyTorch's namespace of the functions, ``torch.ops.revcol_backbone``.

    Raises:
        RuntimeError: The machine is not one for it, has no compiler, or the compiler fails.
        OSError: The result cannot be written.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    if sys.platform != 'linux' or capability not in INSTRUCTIONS or not fuses(torch.float32):
        raise RuntimeError(
            f'native functions need Linux on an x86 CPU with AVX2 or AVX-512, and this is '
            f'{sys.platform} with {capability}; {OTHERWISE}.'
        )
    defines = [f'-DCPU_CAPABILITY={capability}', f'-DCPU_CAPABILITY_{capability}']
    abi = f'-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}'
    options = ['-std=c++20', '-O3', '-fPIC', '-fopenmp', abi, *defines, *INSTRUCTIONS[capability]]
    texts = [path.read_text() for path in (*sorted(FOLDER.glob('*.h')), *SOURCES)]
    recipe = [*texts, torch.__version__, torch.__file__, *options]
    digest = hashlib.sha256('\0'.join(recipe).encode()).hexdigest()[:16]
    path = _cache_folder() / 'revcol_backbone' / f'native-{digest}.so'
    if not path.is_file():
        compiler = _find_compiler()
        print_log(f'Compiling {FOLDER} for this machine to {path} ...', 'current')
        write_atomically(path, lambda partial: _compile(compiler, options, partial))
    torch.ops.load_library(path)
    return torch.ops.revcol_backbone


def _find_compiler() -> list[str]:
    command = shlex.split(os.environ.get('CXX', 'c++'))
    if not command or shutil.which(command[0]) is None:
        raise RuntimeError(
            f"native functions are compiled on this machine, and the C++ compiler '"
            f"{shlex.join(command)}' was not found; install one (Debian: g++), name it in CXX, or "
            f'{OTHERWISE}.'
        )
    return command


def _cache_folder() -> Path:
    if folder := os.environ.get('TORCH_EXTENSIONS_DIR'):
        return Path(folder)
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'torch_extensions'


def _compile(compiler: list[str], options: list[str], path: Path) -> None:
    root = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        objects = [str(Path(folder, f'{source.stem}.o')) for source in SOURCES]
        include = ['-isystem', str(root / 'include')]
        commands = [
            [*compiler, *options, *include, '-c', str(source), '-o', compiled]
            for source, compiled in zip(SOURCES, objects, strict=True)
        ]
        list(pool.map(_run, commands))
        # Without -fopenmp, which would bring a second OpenMP beside PyTorch's.
        libraries = [f'-L{root / "lib"}', '-ltorch_cpu', '-lc10']
        _run([*compiler, '-shared', *objects, *libraries, '-o', str(path)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f'`{shlex.join(command)}` failed with exit status {done.returncode}; name another '
            f'compiler in CXX, or {OTHERWISE}.\n{done.stderr}'
        )

"""The involution layer against unfolding, at every size that RedNet-50 uses.

    python tools/benchmarks/involution.py
    python tools/benchmarks/involution.py --sizes 2x64x112x112x7x1 --rounds 9
    python tools/benchmarks/involution.py --sizes 2x64x112x112x7x1 --rounds 9 --beside 1
    python tools/benchmarks/involution.py --native
    python tools/benchmarks/involution.py --device cuda --out work_dirs/involution.md

A layer is timed whole, with the generation of its kernels, which both forms share and which is
also timed alone: its time over unfolding's is the ratio that an operator without cost would reach.
The three run in turns within one process; a ratio is the median over the rounds of unfolding's time
over ours in that round. Memory is the peak of what PyTorch allocates for forward and backward
beyond the input and the weights. The last column times the implementations of the operator alone.
With --native ours is that of use_native(), which is compiled first.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

# Without it the profiler writes a line of its own for every measurement.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from revcol_backbone.analysis.timing import paired_ratios, summarize, time_in_turns
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors
from revcol_backbone.involution import Involution, RedNet, gathered, native, shifted, use_native

MEBIBYTE = 2**20
# Batch, channels, height, width, kernel, stride.
REFERENCE = (2, 64, 112, 112, 7, 1)
# Batch and image; detectors pad 800 x 1333 to a multiple of 32.
INPUTS = ((2, 224, 224), (1, 800, 1344))
STEM_KERNEL_SIZES = (3, 7)


@dataclass
class Timing:
    """Milliseconds of unfolding, of ours and of the kernels alone; the ratio, and its limit."""

    unfolded: float
    ours: float
    kernels: float
    ratio: float
    limit: float

    def __str__(self) -> str:
        times = f'{self.unfolded:.1f} / {self.ours:.1f} ({self.kernels:.1f})'
        return f'{times} | {self.ratio:.1f} ({self.limit:.1f})'


@dataclass
class Comparison:
    """What was measured at one size; memory in MiB, forms in milliseconds."""

    size: tuple[int, ...]
    layers: str
    forward: Timing
    training: Timing
    unfolded_memory: float
    memory: float
    forms: dict[str, float]


@report_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; ``None`` means the command line of this process."""
    arguments = parse_arguments(argv)
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    use_native(arguments.native)
    sizes = arguments.sizes or [REFERENCE, *rednet_sizes()]
    counts = rednet_sizes()
    rows = []
    with busy_processes(arguments.beside):
        for size in sizes:
            rows.append(compare(size, counts.get(size, '-'), arguments.device, arguments.rounds))
            print(format_row(rows[-1]), file=sys.stderr, flush=True)
    table = format_table(rows, arguments)
    print(table)
    if arguments.out:
        write_atomically(arguments.out, lambda path: path.write_text(table + '\n'))


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--sizes',
        nargs='+',
        type=parse_size,
        help='batch x channels x height x width x kernel x stride; default: those of RedNet-50',
    )
    parser.add_argument('--rounds', type=int, default=5, help='turns of each form')
    parser.add_argument('--threads', type=int, default=2, help='threads on a CPU')
    parser.add_argument(
        '--beside', type=int, default=0, help='processes that keep a core busy meanwhile'
    )
    parser.add_argument('--native', action='store_true', help='compile the operator for CPUs')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, help='also write the table here')
    return parser.parse_args(argv)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Let other processes compute for as long as the context lasts."""
    command = [sys.executable, '-S', '-c', 'while True: pass']
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def parse_size(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split('x'))
    if len(numbers) != len(REFERENCE):
        raise argparse.ArgumentTypeError(
            f'{text!r} has {len(numbers)} numbers; give six, such as '
            f'{"x".join(map(str, REFERENCE))}'
        )
    return numbers


def rednet_sizes() -> dict[tuple[int, ...], str]:
    """Every size at which RedNet-50 runs an involution, with the number of such layers."""
    counts = Counter()
    for stem_kernel_size in STEM_KERNEL_SIZES:
        for batch, *image in INPUTS:
            with torch.device('meta'), torch.no_grad():
                network = RedNet(50, stem_kernel_size=stem_kernel_size).eval()
                found = Counter()
                for layer in network.modules():
                    if isinstance(layer, Involution):
                        layer.register_forward_hook(
                            lambda layer, inputs, _, found=found: found.update(
                                [(*inputs[0].shape, layer.kernel_size, layer.stride)]
                            )
                        )
                network(torch.empty(batch, 3, *image))
            counts |= found
    return {size: str(count) for size, count in counts.items()}


class Kernels(nn.Module):
    """The generation of a layer's kernels: (B, G, K * K, H', W')."""

    def __init__(self, layer: Involution) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        kernel = layer.conv2(layer.conv1(layer.pool(x)))
        return kernel.unflatten(1, (layer.groups, layer.kernel_size**2))


class UnfoldedInvolution(nn.Module):
    """The textbook form with the weights of a layer: unfold, multiply, sum."""

    def __init__(self, layer: Involution) -> None:
        super().__init__()
        self.kernels = Kernels(layer)

    def forward(self, x: Tensor) -> Tensor:
        kernel, layer = self.kernels(x), self.kernels.layer
        windows = F.unfold(
            x, layer.kernel_size, padding=layer.kernel_size // 2, stride=layer.stride
        )
        windows = windows.view(*kernel.shape[:2], -1, *kernel.shape[2:])
        return (kernel.unsqueeze(2) * windows).sum(dim=3).flatten(1, 2)


def compare(size: tuple[int, ...], layers: str, device: str, rounds: int) -> Comparison:
    """Measure one size; all forms have the same weights and the same input."""
    *shape, kernel_size, stride = size
    layer = Involution(shape[1], kernel_size, stride).to(device)
    x = torch.randn(shape, device=device, requires_grad=True)
    unfolded, kernels = UnfoldedInvolution(layer), Kernels(layer)
    torch.testing.assert_close(layer(x), unfolded(x), rtol=1e-3, atol=1e-4)
    grads = [torch.randn_like(output(x)) for output in (unfolded, layer, kernels)]
    modules = dict(zip((unfolded, layer, kernels), grads, strict=True))

    def infer(module: nn.Module) -> None:
        with torch.no_grad():
            module(x)

    def train(module: nn.Module) -> None:
        torch.autograd.grad(module(x), [x, *layer.parameters()], modules[module])

    weights = kernels(x).detach()
    forms = {
        name: functools.partial(form.aggregate, x.detach(), weights, stride)
        for name, form in implementations(device).items()
    }
    alone = take_turns([*forms.values()], rounds, device)
    return Comparison(
        size,
        layers,
        medians(take_turns([functools.partial(infer, each) for each in modules], rounds, device)),
        medians(take_turns([functools.partial(train, each) for each in modules], rounds, device)),
        peak_memory(functools.partial(train, unfolded), device),
        peak_memory(functools.partial(train, layer), device),
        {name: summarize(own).median for name, own in zip(forms, alone, strict=True)},
    )


def implementations(device: str) -> dict[str, ModuleType]:
    """What the operator can choose from on a device."""
    if device == 'cpu':
        forms = {'gathered': gathered, 'shifted': shifted}
        return forms | {'native': native} if native.takes(torch.empty(0)) else forms
    from revcol_backbone.involution import triton_kernels

    return {'Triton': triton_kernels, 'shifted': shifted}


def take_turns(calls: list[Callable], rounds: int, device: str) -> list[list[float]]:
    """Milliseconds of every call in each round, after one round to warm up."""
    seconds = time_in_turns(calls, rounds, warmup=1, device=torch.device(device))
    return [[1e3 * value for value in own] for own in seconds]


def medians(times: list[list[float]]) -> Timing:
    """Medians of the three times, and of the ratios within a round."""
    unfolded, ours, kernels = times
    columns = (*times, paired_ratios(unfolded, ours), paired_ratios(unfolded, kernels))
    return Timing(*(summarize(column).median for column in columns))


def peak_memory(run: Callable[[], None], device: str) -> float:
    """Largest sum of PyTorch's allocations at any moment of ``run``, in MiB."""
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / MEBIBYTE
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == '[memory]':
            now += event.nbytes()
            peak = max(peak, now)
    return peak / MEBIBYTE


def format_table(rows: list[Comparison], arguments: argparse.Namespace) -> str:
    where = f'{arguments.threads} threads' if arguments.device == 'cpu' else arguments.device
    if arguments.native:
        where += ', native'
    if arguments.beside:
        where += f' beside {arguments.beside} busy processes'
    return '\n'.join(
        [
            f'PyTorch {torch.__version__}, {where}, float32, {arguments.rounds} rounds; '
            'unfold / ours (kernels alone), ratio (its limit).',
            '',
            '| input | K | stride | layers | forward, ms | ratio | forward + backward, ms | ratio '
            '| peak, MiB | ratio | operator alone, forward, ms |',
            '|---|---|---|---|---|---|---|---|---|---|---|',
            *map(format_row, rows),
        ]
    )


def format_row(row: Comparison) -> str:
    *shape, kernel_size, stride = row.size
    memory = (
        f'{row.unfolded_memory:.1f} / {row.memory:.1f} | {row.memory / row.unfolded_memory:.3f}'
    )
    forms = ', '.join(f'{name} {milliseconds:.1f}' for name, milliseconds in row.forms.items())
    return (
        f'| {" x ".join(map(str, shape))} | {kernel_size} | {stride} | {row.layers} '
        f'| {row.forward} | {row.training} | {memory} | {forms} |'
    )


if __name__ == '__main__':
    sys.exit(main())

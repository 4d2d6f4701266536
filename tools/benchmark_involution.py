"""The involution layer against unfolding, at every size that RedNet-50 uses.

    python tools/benchmark_involution.py
    python tools/benchmark_involution.py --sizes 2x64x112x112x7x1 --rounds 9
    python tools/benchmark_involution.py --device cuda --out work_dirs/involution.md

A layer is timed whole, with the generation of its kernels. Both forms run in turns within one
process; a ratio is the median over the rounds of unfolding's time over ours in that round. Memory
is the peak of what PyTorch allocates for forward and backward beyond the input and the weights.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Without it the profiler writes a line of its own for every measurement.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from revcol_backbone.involution import Involution, RedNet

MEBIBYTE = 2**20
# The size of the issue's own measurement: batch, channels, height, width, kernel, stride.
REFERENCE = (2, 64, 112, 112, 7, 1)
# Batch and image; detectors pad 800 x 1333 to a multiple of 32.
INPUTS = ((2, 224, 224), (1, 800, 1344))
STEM_KERNEL_SIZES = (3, 7)


@dataclass
class Comparison:
    """Milliseconds and MiB of unfolding and of ours, and the ratios between them."""

    size: tuple[int, ...]
    layers: str
    unfold_forward: float
    forward: float
    forward_ratio: float
    unfold_training: float
    training: float
    training_ratio: float
    unfold_memory: float
    memory: float

    @property
    def memory_ratio(self) -> float:
        return self.memory / self.unfold_memory


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    sizes = arguments.sizes or [REFERENCE, *rednet_sizes()]
    counts = rednet_sizes()
    rows = []
    for size in sizes:
        rows.append(compare(size, counts.get(size, '-'), arguments.device, arguments.rounds))
        print(format_row(rows[-1]), file=sys.stderr, flush=True)
    table = format_table(rows, arguments)
    print(table)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = arguments.out.with_name(arguments.out.name + '.part')
        temporary.write_text(table + '\n')
        temporary.replace(arguments.out)


def parse_arguments() -> argparse.Namespace:
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
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, help='also write the table here')
    return parser.parse_args()


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


class UnfoldedInvolution(nn.Module):
    """The textbook form with the weights of a layer: unfold, multiply, sum."""

    def __init__(self, layer: Involution) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        kernel = layer.conv2(layer.conv1(layer.pool(x)))
        batch, _, height, width = kernel.shape
        positions = layer.kernel_size**2
        kernel = kernel.view(batch, layer.groups, 1, positions, height, width)
        windows = F.unfold(
            x, layer.kernel_size, padding=layer.kernel_size // 2, stride=layer.stride
        ).view(batch, layer.groups, -1, positions, height, width)
        return (kernel * windows).sum(dim=3).view(batch, -1, height, width)


def compare(size: tuple[int, ...], layers: str, device: str, rounds: int) -> Comparison:
    """Measure one size; both forms have the same weights and the same input."""
    *shape, kernel_size, stride = size
    layer = Involution(shape[1], kernel_size, stride).to(device)
    x = torch.randn(shape, device=device, requires_grad=True)
    ours, unfolded = layer, UnfoldedInvolution(layer)
    torch.testing.assert_close(ours(x), unfolded(x), rtol=1e-3, atol=1e-4)
    grad = torch.randn_like(ours(x))

    def infer(form: nn.Module) -> None:
        with torch.no_grad():
            form(x)

    def train(form: nn.Module) -> None:
        torch.autograd.grad(form(x), [x, *layer.parameters()], grad)

    forward = take_turns(infer, unfolded, ours, rounds, device)
    training = take_turns(train, unfolded, ours, rounds, device)
    return Comparison(
        size,
        layers,
        *summarize(forward),
        *summarize(training),
        peak_memory(lambda: train(unfolded), device),
        peak_memory(lambda: train(ours), device),
    )


def take_turns(
    run: Callable, first: nn.Module, second: nn.Module, rounds: int, device: str
) -> list[tuple[float, float]]:
    """Milliseconds of both forms in each round, after one round to warm up."""
    times = [(measure(run, first, device), measure(run, second, device)) for _ in range(rounds + 1)]
    return times[1:]


def measure(run: Callable, form: nn.Module, device: str) -> float:
    synchronize(device)
    start = time.perf_counter()
    run(form)
    synchronize(device)
    return (time.perf_counter() - start) * 1e3


def summarize(times: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Medians of both times, and the median of their ratio."""
    ratios = [unfolded / ours for unfolded, ours in times]
    return (*map(statistics.median, zip(*times, strict=True)), statistics.median(ratios))


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


def synchronize(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize(device)


def format_table(rows: list[Comparison], arguments: argparse.Namespace) -> str:
    where = f'{arguments.threads} threads' if arguments.device == 'cpu' else arguments.device
    return '\n'.join(
        [
            f'PyTorch {torch.__version__}, {where}, float32, {arguments.rounds} rounds; '
            'unfold / ours.',
            '',
            '| input | K | stride | layers | forward, ms | ratio | forward + backward, ms | ratio '
            '| peak, MiB | ratio |',
            '|---|---|---|---|---|---|---|---|---|---|',
            *map(format_row, rows),
        ]
    )


def format_row(row: Comparison) -> str:
    *shape, kernel_size, stride = row.size
    return (
        f'| {" x ".join(map(str, shape))} | {kernel_size} | {stride} | {row.layers} '
        f'| {row.unfold_forward:.1f} / {row.forward:.1f} | {row.forward_ratio:.1f} '
        f'| {row.unfold_training:.1f} / {row.training:.1f} | {row.training_ratio:.1f} '
        f'| {row.unfold_memory:.1f} / {row.memory:.1f} | {row.memory_ratio:.3f} |'
    )


if __name__ == '__main__':
    main()

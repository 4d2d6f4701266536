"""The IC convolution against the ordinary one and its textbook form, at every size of ResNet-50.

    python tools/benchmarks/ic.py
    python tools/benchmarks/ic.py --sizes 2x64x56x56x64x3x1 --rounds 50
    python tools/benchmarks/ic.py --threads 1 --clock cpu --out work_dirs/ic.md

What is timed is a convolution with batch norm and ReLU: in a training step (forward, backward for
the input and all parameters) and in inference, there also with the batch norm folded into ours. The
textbook form makes the window sums by a second convolution, with ones. All run in turns within one
process; a ratio is the median over the rounds of a time over the ordinary one's in that round. Live
memory is the peak of all tensors of a training step, an exact count.
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.analysis.timing import paired_ratios, time_in_turns
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.ic import ICConv2d
from revcol_backbone.ic.detection import ICResNet
from revcol_backbone.ic.folding import fold_batch_norms

MEBIBYTE = 2**20
# Batch, channels, height, width, channels out, kernel, stride.
Size = tuple[int, int, int, int, int, int, int]
REFERENCE: Size = (2, 64, 56, 56, 64, 3, 1)
# Batch and image; detectors pad 800 x 1333 to a multiple of 32.
INPUTS = ((2, 224, 224), (1, 800, 1344))
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    counts = resnet_sizes()
    lines = [format_header(arguments)]
    for size in arguments.sizes or counts:
        lines.append(measure(size, counts.get(size, 0), arguments))
        print(lines[-1], file=sys.stderr, flush=True)
    table = '\n'.join(lines)
    print(table)
    if arguments.out:
        write_atomically(arguments.out, lambda path: path.write_text(table + '\n'))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--sizes',
        nargs='+',
        type=parse_size,
        help='batch x channels x height x width x channels out x kernel x stride; default: those '
        'of ResNet-50',
    )
    parser.add_argument('--rounds', type=int, default=15, help='turns of each form')
    parser.add_argument('--threads', type=int, default=2, help='threads on a CPU')
    parser.add_argument(
        '--clock',
        choices=CLOCKS,
        default='wall',
        help='cpu counts the work of this process, for machines where others work too',
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, help='also write the table here')
    return parser.parse_args()


def parse_size(text: str) -> Size:
    numbers = tuple(int(number) for number in text.split('x'))
    if len(numbers) != len(REFERENCE):
        raise argparse.ArgumentTypeError(
            f'{text!r} has {len(numbers)} numbers; give seven, such as '
            f'{"x".join(map(str, REFERENCE))}'
        )
    return numbers


def resnet_sizes() -> dict[Size, int]:
    """Every size at which IC-ResNet-50 runs a unit, with the number of such layers."""
    counts: Counter = Counter()
    with torch.device('meta'), torch.no_grad():
        network = ICResNet(50)
        network.eval()
        for unit in network.modules():
            if isinstance(unit, ICConv2d):
                unit.register_forward_pre_hook(
                    lambda unit, inputs: counts.update(
                        [
                            (
                                *inputs[0].shape,
                                unit.out_channels,
                                unit.kernel_size[0],
                                unit.stride[0],
                            )
                        ]
                    )
                )
        for batch, *image in INPUTS:
            network(torch.empty(batch, 3, *image))
    return dict(counts)


class Textbook(nn.Module):
    """The unit with a second convolution, with ones; the weights are those of ours."""

    def __init__(self, unit: ICConv2d) -> None:
        super().__init__()
        self.unit = unit
        self.register_buffer('ones', torch.ones_like(unit.weight))

    def forward(self, x: Tensor) -> Tensor:
        unit = self.unit
        u = unit._conv_forward(x, unit.weight, None)
        s = unit._conv_forward(x, self.ones, None)
        weight, bias = (p.view(1, -1, 1, 1) for p in (unit.collision_weight, unit.collision_bias))
        return u + F.relu(u - weight * s + bias)


def measure(size: Size, layers: int, arguments: argparse.Namespace) -> str:
    """One row of the table."""
    batch, channels, height, width, out_channels, kernel, stride = size
    settings = (channels, out_channels, kernel, stride, kernel // 2)
    unit = ICConv2d(*settings, bias=False, collision_start='mean')
    plain = nn.Conv2d(*settings, bias=False)
    blocks = [
        nn.Sequential(each, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)).to(
            arguments.device
        )
        for each in (plain, unit, Textbook(copy.deepcopy(unit)))
    ]
    x = torch.rand(batch, channels, height, width, device=arguments.device, requires_grad=True)
    torch.testing.assert_close(blocks[1](x), blocks[2](x), rtol=1e-3, atol=1e-4)
    grad = torch.randn_like(blocks[0](x))

    def train(block: nn.Module) -> None:
        torch.autograd.grad(block(x), [x, *block.parameters()], grad)

    def infer(block: nn.Module) -> None:
        with torch.no_grad():
            block(x)

    training = take_turns([functools.partial(train, block) for block in blocks], arguments)
    memory = [peak_bytes(functools.partial(train, block)) / MEBIBYTE for block in blocks]
    for block in blocks:
        block.eval()
    folded = copy.deepcopy(blocks[1])
    fold_batch_norms(folded)
    inference = take_turns(
        [functools.partial(infer, block) for block in (*blocks, folded)], arguments
    )
    shape = f'{batch} x {channels} x {height} x {width}'
    return (
        f'| {shape} | {out_channels} | {kernel}, {stride} | {layers or "-"} '
        f'| {format_times(training)} | {format_times(inference)} '
        f'| {" / ".join(f"{peak:.1f}" for peak in memory)} '
        f'| {memory[1] / memory[0]:.2f}, {memory[2] / memory[0]:.2f} |'
    )


def take_turns(runs: list, arguments: argparse.Namespace) -> list[list[float]]:
    """Seconds of each run in every round."""
    return time_in_turns(
        runs,
        arguments.rounds,
        2,
        torch.device(arguments.device),
        CLOCKS[arguments.clock],
    )


def format_times(seconds: list[list[float]]) -> str:
    """Medians in milliseconds, and the ratios of all but the first to the first."""
    medians = ' / '.join(f'{np.median(each) * 1e3:.2f}' for each in seconds)
    ratios = (np.median(paired_ratios(each, seconds[0])) for each in seconds[1:])
    return f'{medians} | {", ".join(f"{ratio:.2f}" for ratio in ratios)}'


def peak_bytes(run: functools.partial) -> int:
    with LiveBytes() as live:
        run()
    return live.peak


def format_header(arguments: argparse.Namespace) -> str:
    where = f'{arguments.threads} threads' if arguments.device == 'cpu' else arguments.device
    return '\n'.join(
        [
            f'PyTorch {torch.__version__}, {where}, float32, {arguments.rounds} rounds, '
            f'{arguments.clock} time; ordinary / ours / textbook (/ ours folded).',
            '',
            '| input | out | kernel, stride | layers | training step, ms | ours, textbook '
            '| inference, ms | ours, textbook, folded | live memory, MiB | ours, textbook |',
            '|---|---|---|---|---|---|---|---|---|---|',
        ]
    )


if __name__ == '__main__':
    main()

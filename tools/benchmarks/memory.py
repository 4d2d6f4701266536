"""Columns against training memory, step time and gradient error, for every way to train columns.

    python tools/benchmarks/memory.py
    python tools/benchmarks/memory.py --columns 16 --modes plain anchor_0 anchor_4 --rounds 3
    python tools/benchmarks/memory.py --model revcol_vit_s --columns 4 8 --rounds 1
    python tools/benchmarks/memory.py --fit

Memory is the peak of one training step beyond the parameters' gradients: the exact bytes of live
tensors on a CPU, the allocator's peak on CUDA. Times are taken in turns within one run, and the
ratio to plain training is the median of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from revcol_backbone import VARIANTS, RevCol, RevColViT, ReversibleColumns
from revcol_backbone.analysis.fixtures import randomize_like_trained
from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.analysis.timing import paired_ratios, summarize, time_in_turns
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors
from revcol_backbone.column import Features
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY
from revcol_backbone.transformers.vit_variants import VIT_VARIANTS

matplotlib.use('agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter  # noqa: E402

MEBIBYTE, GIBIBYTE = 2**20, 2**30
MODES = ('plain', 'checkpoint', 'anchor_1', 'anchor_2', 'anchor_4', 'anchor_8', 'anchor_0')
# Parameter and two moments of AdamW, float32; the gradient is part of the step's peak.
STATE_BYTES = 12
GPU_SIZES = (24, 48, 80)
FIT_INPUTS = {'detection, 1344 x 800': (800, 1344), 'segmentation, 640 x 640': (640, 640)}

# Networks of a given number of columns, beside RevCol of given widths.
NETWORKS: dict[str, Callable[[int], ReversibleColumns]] = {
    'revcol_vit_s': lambda n: RevColViT({**vars(VIT_VARIANTS['small']), 'columns': n}),
    'revcol_vit_b': lambda n: RevColViT({**vars(VIT_VARIANTS['base']), 'columns': n}),
}


@dataclass
class Measurement:
    """One way to train at one number of columns; ratio and error are against plain training."""

    columns: int
    mode: str
    peak_mib: float
    step_seconds: float
    time_ratio: float
    gradient_error: float


@report_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; ``None`` means the command line of this process."""
    arguments = parse_arguments(argv)
    torch.manual_seed(0)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.fit:
        print_fit_table(arguments.out)
        return
    results = []
    for columns in arguments.columns:
        results += measure_columns(columns, arguments)
    print_table(results)
    print_growth(results)
    content = {'settings': describe(arguments), 'results': [asdict(r) for r in results]}
    text = json.dumps(content, indent=2) + '\n'
    write_atomically(arguments.out / 'memory.json', lambda path: path.write_text(text))
    draw(results, arguments.out / 'memory.png')
    print(f'\nWritten: {arguments.out / "memory.json"}, {arguments.out / "memory.png"}')


def measure_columns(columns: int, arguments: argparse.Namespace) -> list[Measurement]:
    """Train one step in every mode, in turns, on the same weights and image."""
    if arguments.model in NETWORKS:
        model = NETWORKS[arguments.model](columns)
    else:
        arch = {'channels': arguments.channels, 'layers': arguments.layers, 'columns': columns}
        model = RevCol(arch)
    model = randomize_like_trained(model).to(arguments.device)
    if arguments.alpha is not None:
        for name, parameter in model.named_parameters():
            if '.alpha' in name:
                nn.init.constant_(parameter, arguments.alpha)
    image = torch.randn(arguments.batch, 3, *arguments.size, device=arguments.device)
    modes = list(dict.fromkeys(['plain', *arguments.modes]))
    peaks, gradients = {}, {}
    for mode in modes:
        peaks[mode] = peak_bytes(model, mode, image)
        gradients[mode] = torch.cat([p.grad.flatten().cpu() for p in model.parameters()])
    reference = gradients['plain']
    steps = [functools.partial(train_step, model, mode, image) for mode in modes]
    timed = time_in_turns(steps, arguments.rounds, warmup=0, device=image.device)
    seconds = dict(zip(modes, timed, strict=True))
    return [
        Measurement(
            columns=columns,
            mode=mode,
            peak_mib=peaks[mode] / MEBIBYTE,
            step_seconds=summarize(seconds[mode]).median,
            time_ratio=summarize(paired_ratios(seconds[mode], seconds['plain'])).median,
            gradient_error=((gradients[mode] - reference).norm() / reference.norm()).item(),
        )
        for mode in modes
    ]


def train_step(model: ReversibleColumns, mode: str, image: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    sum(output.square().mean() for output in run(model, mode, image)).backward()


def run(model: ReversibleColumns, mode: str, image: Tensor) -> tuple[Tensor, ...]:
    """The forward pass: 'plain', 'checkpoint' (PyTorch's, a column each) or 'anchor_N'."""
    model.save_memory = mode.startswith('anchor_')
    if model.save_memory:
        model.anchor_every = int(mode.removeprefix('anchor_'))
    if mode != 'checkpoint':
        return model(image)
    model.run_columns = functools.partial(checkpoint_columns, model)
    try:
        return model(image)
    finally:
        del model.run_columns


def checkpoint_columns(
    model: ReversibleColumns, stem: Tensor, constants: Sequence[object] = ()
) -> list[Features]:
    """Run the columns in place of the network's own method."""
    features = None
    for index in range(model.columns):
        column = getattr(model, f'subnet{index}')
        features = checkpoint(column, stem, features, constants=constants, use_reentrant=False)
    return [features]


def peak_bytes(model: ReversibleColumns, mode: str, image: Tensor) -> int:
    """Peak memory of one step, without parameters, their gradients and the image."""
    if image.device.type == 'cuda':
        model.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        train_step(model, mode, image)
        peak = torch.cuda.max_memory_allocated() - before
    else:
        with LiveBytes() as live:
            train_step(model, mode, image)
        peak = live.peak
    return peak - sum(parameter.grad.nbytes for parameter in model.parameters())


def print_table(results: Iterable[Measurement]) -> None:
    print('| columns | mode | peak MiB | step s | time / plain | gradient error |')
    print('|--:|---|--:|--:|--:|--:|')
    for r in results:
        print(
            f'| {r.columns} | {label(r.mode)} | {r.peak_mib:.1f} | {r.step_seconds:.2f} '
            f'| {r.time_ratio:.2f} | {r.gradient_error:.1e} |'
        )


def print_growth(results: list[Measurement]) -> None:
    """MiB a column, between the fewest and the most columns."""
    few, many = min(r.columns for r in results), max(r.columns for r in results)
    if few == many:
        return
    print(f'\nGrowth per column, from {few} to {many} columns:')
    for mode, series in by_mode(results):
        peaks = {r.columns: r.peak_mib for r in series}
        print(f'  {label(mode):28} {(peaks[many] - peaks[few]) / (many - few):8.2f} MiB')


def by_mode(results: list[Measurement]) -> Iterator[tuple[str, list[Measurement]]]:
    for mode in dict.fromkeys(r.mode for r in results):
        yield mode, [r for r in results if r.mode == mode]


def label(mode: str) -> str:
    if mode == 'plain':
        return 'plain'
    if mode == 'checkpoint':
        return 'torch.utils.checkpoint'
    every = int(mode.removeprefix('anchor_'))
    suffix = ' (default)' if every == DEFAULT_ANCHOR_EVERY else ''
    return f'anchor_every={every}{suffix}'


def draw(results: list[Measurement], path: Path) -> None:
    figure, (memory, speed) = plt.subplots(1, 2, figsize=(11, 4.2), layout='constrained')
    for mode, series in by_mode(results):
        columns = [r.columns for r in series]
        style = {'marker': 'o', 'linestyle': '-' if mode.startswith('anchor') else '--'}
        memory.plot(columns, [r.peak_mib for r in series], label=label(mode), **style)
        speed.plot(columns, [r.time_ratio for r in series], label=label(mode), **style)
    memory.set(title='Peak memory of a training step', xlabel='columns', ylabel='MiB', yscale='log')
    speed.set(title='Time of a training step', xlabel='columns', ylabel='ratio to plain', ylim=0)
    memory.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    memory.yaxis.set_major_formatter(ScalarFormatter())
    memory.yaxis.set_minor_formatter(NullFormatter())
    for axes in (memory, speed):
        axes.set_xticks(sorted({r.columns for r in results}))
        axes.grid(alpha=0.3)
    memory.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def print_fit_table(out: Path) -> None:
    """Which batch of the backbone alone fits a GPU; computed on the meta device."""
    print('Computed, not measured: float32, AdamW, the backbone alone (heads come on top).')
    print(f'| model | input | mode | MiB per image | {" | ".join(f"{g} GB" for g in GPU_SIZES)} |')
    print(f'|---|---|---|--:|{"--:|" * len(GPU_SIZES)}')
    rows = []
    for name, arch in VARIANTS.items():
        with torch.device('meta'):
            model = RevCol(arch, kernel_size=7 if arch.long_up else 3)
        states = STATE_BYTES * sum(parameter.numel() for parameter in model.parameters())
        for title, size in FIT_INPUTS.items():
            for mode in ('plain', f'anchor_{DEFAULT_ANCHOR_EVERY}'):
                peak = functools.cache(functools.partial(step_peak, model, mode, size=size))
                # In a small batch the peak is the gradients' at the end of the backward pass.
                per_image = (peak(32) - peak(16)) // 16
                batches = [largest_batch(peak, per_image, gpu * 1e9 - states) for gpu in GPU_SIZES]
                rows.append(
                    {'model': name, 'input': title, 'mode': mode, 'bytes_per_image': per_image}
                    | {'largest_batch': dict(zip(GPU_SIZES, batches, strict=True))}
                )
                cells = ' | '.join(str(batch) if batch else 'none' for batch in batches)
                print(
                    f'| {name} | {title} | {label(mode)} | {per_image / MEBIBYTE:.0f} | {cells} |',
                    flush=True,
                )
    text = json.dumps(rows, indent=2) + '\n'
    write_atomically(out / 'fit.json', lambda path: path.write_text(text))


def largest_batch(peak: Callable[[int], int], per_image: int, available: float) -> int:
    """The largest batch whose peak is available; 0 if there is none."""
    batch, seen = 32, set()
    while batch not in seen:  # the peak is not quite linear
        seen.add(batch)
        batch = max(1, batch + int((available - peak(batch)) // per_image))
    while batch and peak(batch) > available:
        batch -= 1
    while batch and peak(batch + 1) <= available:
        batch += 1
    return batch


def step_peak(model: RevCol, mode: str, batch: int, size: tuple[int, int]) -> int:
    """Peak of one step, with the parameters' gradients."""
    image = torch.empty(batch, 3, *size, device='meta')
    with LiveBytes() as live:
        train_step(model, mode, image)
    return live.peak


def describe(arguments: argparse.Namespace) -> dict:
    settings = {key: value for key, value in vars(arguments).items() if key not in ('out', 'fit')}
    return {
        **{key: str(value) if key == 'device' else value for key, value in settings.items()},
        'torch': torch.__version__,
        'threads': torch.get_num_threads(),
    }


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    tiny = VARIANTS['tiny']
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', choices=['revcol', *NETWORKS], default='revcol')
    parser.add_argument('--columns', type=int, nargs='+', default=[4, 8, 12, 16])
    parser.add_argument('--modes', nargs='+', choices=MODES, default=MODES)
    parser.add_argument('--channels', type=int, nargs=4, default=tiny.channels)
    parser.add_argument('--layers', type=int, nargs=4, default=tiny.layers)
    parser.add_argument('--size', type=int, nargs=2, default=(448, 672), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--alpha', type=float, help='every alpha; default as in trained networks')
    parser.add_argument('--rounds', type=int, default=5, help='turns of timed steps')
    default_device = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', type=torch.device, default=torch.device(default_device))
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark_memory'))
    parser.add_argument('--fit', action='store_true', help='what fits which GPU, computed')
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(main())

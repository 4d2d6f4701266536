"""A RevCol as trained and as deployed: latency in turns, and where the time of each goes.

    python tools/benchmarks/backbone.py
    python tools/benchmarks/backbone.py --arch small --shape 512 512 --batch-size 1 --no-compile

The forms run in turns within one process; a ratio is the median over the rounds of the first form's
time over the other's in that round: above 1, the other is faster. The first form is the network as
trained, the published formulation: convolutions on channels first, the rest on channels last.
The native form is for CPUs, and needs a C++ compiler.
Times of the operators are those of one run under PyTorch's profiler. The limit is what the matrix
products of the linear layers alone would take at the rate of a large one.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Without it the profiler writes lines of its own for every measurement.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

import torch
from mmengine.utils import ProgressBar
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone import VARIANTS, RevCol
from revcol_backbone.analysis.fixtures import randomize_like_trained
from revcol_backbone.analysis.timing import paired_ratios, summarize, time_in_turns
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors

MILLISECONDS = 1e3
LARGE = 2048  # rows and columns of a matrix product whose operands are large
# PyTorch's operators by what they do for the network.
KINDS = {
    'aten::addmm': 'matrix products',
    'aten::mm': 'matrix products',
    'mkldnn::_linear_pointwise': 'matrix products, with GELU and residual',
    'revcol_backbone::packed_block': 'whole blocks',
    'revcol_backbone::packed_projection': 'matrix products and convolutions, with LayerNorm',
    'aten::mkldnn_convolution': 'convolutions',
    'aten::gelu': 'GELU',
    'aten::gelu_': 'GELU',
    'aten::native_layer_norm': 'LayerNorm',
    'aten::copy_': 'copies and casts',
    'aten::add': 'additions and scaling',
    'aten::mul': 'additions and scaling',
    'aten::addcmul': 'additions and scaling',
}
OTHER = 'everything else'


@report_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; ``None`` means the command line of this process."""
    arguments = parse_arguments(argv)
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    image = torch.randn(arguments.batch_size, 3, *arguments.shape, device=arguments.device)
    trained = randomize_like_trained(RevCol(arguments.arch)).to(arguments.device).eval()
    with torch.inference_mode():
        forms = make_forms(trained, image, arguments.compile)
        bar = ProgressBar(arguments.warmup + arguments.rounds)
        seconds = time_in_turns(
            list(forms.values()),
            arguments.rounds,
            arguments.warmup,
            image.device,
            progress=bar.update,
        )
        print()
        latencies = dict(zip(forms, seconds, strict=True))
        errors = relative_errors(forms)
        kinds = {
            name: time_by_kind(run, image.device)
            for name, run in forms.items()
            if 'compile' not in name
        }
        limit = linear_limit(trained, image)
    print_latencies(latencies, errors)
    print(
        f'\nThe linear layers are {limit["share"]:.0%} of {limit["multiply_adds"] / 1e9:.1f}G '
        f'multiply-adds; a large matrix product runs at {limit["gflops"]:.0f} GFLOP/s, at which '
        f'they alone take {limit["milliseconds"]:.0f} ms in float32.'
    )
    for name, times in kinds.items():
        print_kinds(name, times)
    if arguments.out:
        settings = {**vars(arguments), 'device': str(image.device), 'out': None}
        settings['torch'] = torch.__version__
        content = {'settings': settings, 'seconds': latencies, 'errors': errors, 'kinds': kinds}
        content['limit'] = limit
        text = json.dumps(content, indent=2) + '\n'
        write_atomically(arguments.out, lambda path: path.write_text(text))


def make_forms(
    trained: RevCol, image: Tensor, with_compile: bool
) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """What to compare, by name; the network as trained comes first."""
    deployed = copy.deepcopy(trained)
    deployed.switch_to_deploy()
    halved = copy.deepcopy(deployed).bfloat16()
    forms = {
        'float32, trained': lambda: trained(image),
        'float32, deployed': lambda: deployed(image),
    }
    if image.device.type == 'cpu':
        native = copy.deepcopy(deployed)
        native.switch_to_deploy(native=True)
        forms['float32, deployed, native'] = lambda: native(image)
    forms |= {
        'bfloat16 autocast, trained': _autocast(trained, image),
        'bfloat16 autocast, deployed': _autocast(deployed, image),
        'bfloat16 weights, deployed': lambda: halved(image.bfloat16()),
    }
    if with_compile:
        compiled, compiled_deployed = torch.compile(trained), torch.compile(deployed)
        compiled_halved = torch.compile(halved)
        forms |= {
            'float32, trained, torch.compile': lambda: compiled(image),
            'float32, deployed, torch.compile': lambda: compiled_deployed(image),
            'bfloat16 weights, deployed, torch.compile': lambda: compiled_halved(image.bfloat16()),
        }
    return forms


def relative_errors(forms: Mapping[str, Callable[[], tuple[Tensor, ...]]]) -> dict[str, float]:
    """The largest difference from the first form over its largest value, over all levels."""
    outputs = {name: run() for name, run in forms.items()}
    reference = next(iter(outputs.values()))
    return {
        name: max(
            ((level.float() - expected).abs().max() / expected.abs().max()).item()
            for level, expected in zip(levels, reference, strict=True)
        )
        for name, levels in outputs.items()
    }


def time_by_kind(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Milliseconds of one run on a device by the kind of operator."""
    activities = [ProfilerActivity.CPU]
    is_cpu = device.type == 'cpu'
    if not is_cpu:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        run()
    times: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        own = event.self_cpu_time_total if is_cpu else event.self_device_time_total
        times[KINDS.get(event.key, OTHER)] += own / MILLISECONDS
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def linear_limit(model: RevCol, image: Tensor) -> dict[str, float]:
    """The multiply-adds of the network, its linear layers' share, and their least time."""
    with FlopCounterMode(display=False) as counter:
        model(image)
    linear = counter.get_flop_counts()['Global'][torch.ops.aten.addmm]
    side = torch.randn(LARGE, LARGE, device=image.device)
    seconds = min(time_in_turns([lambda: side @ side], 5, 2, image.device)[0])
    rate = 2 * LARGE**3 / seconds
    return {
        'multiply_adds': counter.get_total_flops() / 2,
        'share': linear / counter.get_total_flops(),
        'gflops': rate / 1e9,
        'milliseconds': linear / rate * MILLISECONDS,
    }


def print_latencies(seconds: Mapping[str, list[float]], errors: Mapping[str, float]) -> None:
    first = next(iter(seconds.values()))
    print(f'{"":<44}{"latency, ms":>18}{"times as fast":>20}{"error":>10}')
    for name, own in seconds.items():
        latency = summarize([value * MILLISECONDS for value in own])
        ratio = summarize(paired_ratios(first, own))
        print(
            f'{name:<44}{latency.median:>8.0f} [{latency.low:.0f}-{latency.high:.0f}]'
            f'{ratio.median:>12.2f} [{ratio.low:.2f}-{ratio.high:.2f}]{errors[name]:>10.0e}'
        )


def print_kinds(name: str, times: Mapping[str, float]) -> None:
    total = sum(times.values())
    print(f'\n{name}: {total:.0f} ms under the profiler')
    for kind, milliseconds in times.items():
        print(f'  {kind:<42}{milliseconds:>8.1f} ms{milliseconds / total:>7.1%}')


def _autocast(model: nn.Module, image: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    def run() -> tuple[Tensor, ...]:
        with torch.autocast(image.device.type, torch.bfloat16):
            return model(image)

    return run


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arch', choices=VARIANTS, default='tiny')
    parser.add_argument('--shape', type=int, nargs=2, default=(320, 480), metavar=('H', 'W'))
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=15, help='timed turns')
    parser.add_argument('--warmup', type=int, default=2, help='turns before them')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--device', type=torch.device, default=torch.device('cpu'))
    parser.add_argument(
        '--compile', action=argparse.BooleanOptionalAction, default=True, help='default: yes'
    )
    parser.add_argument('--out', type=Path, help='JSON with the seconds of every turn')
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(main())

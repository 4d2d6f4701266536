"""Latency and throughput of a network, or of two in turns with the ratio of each turn.

    python tools/benchmarks/speed.py CONFIG
    python tools/benchmarks/speed.py CONFIG --compare CONFIG2
    python tools/benchmarks/speed.py CONFIG --backbone-only --compare-deploy
    python tools/benchmarks/speed.py CONFIG --compare-dtype bfloat16
    python tools/benchmarks/speed.py CONFIG --deploy --compare-compile --out speed.json

Any `--compare...` option makes a second network: the first one's config and options with what these
options change. Both run in turns in this process, A B A B ..., and the ratio is the median of the
ratios of the rounds: above 1, the second is faster. Times are medians with the 10th and 90th
percentile in brackets.

Timed is inference on normalized images: with --backbone-only the backbone, else the whole model up
to its result, post-processing included. Weights are random unless --checkpoint is given, and images
are noise unless --image is given: that changes nothing in the time of a backbone or of a UPerNet,
but a detector finds nothing in noise, and its second stage then has less to do.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from mmengine.utils import ProgressBar
from torch import Tensor, nn

from revcol_backbone.analysis.columns import find_revcols
from revcol_backbone.analysis.network_input import cover, describe_batch, make_batch
from revcol_backbone.analysis.timing import paired_ratios, summarize, time_in_turns
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import positive_int, report_errors
from revcol_backbone.engine.building import backbone_of, build_model, read_model_config
from revcol_backbone.inference.loading import choose_device
from revcol_backbone.inference.media import read_image

DTYPES = ('float32', 'bfloat16', 'float16')


@dataclass(frozen=True)
class Network:
    """What makes one of the two networks.

    Args:
        config: The config of a detector, a segmentor or a bare backbone.
        checkpoint: Its weights; random ones without.
        dtype: One of ``DTYPES``; other than float32 by autocast.
        deploy: Fold the RevCol by its ``switch_to_deploy()``.
        native: Do so with ``switch_to_deploy(native=True)``.
        compile: ``torch.compile`` the backbone and the neck.
        channels_last: Give weights and images that memory format.
    """

    config: Path
    checkpoint: Path | None = None
    dtype: str = 'float32'
    deploy: bool = False
    native: bool = False
    compile: bool = False
    channels_last: bool = False

    def __str__(self) -> str:
        names = ('deploy', 'native', 'compile', 'channels_last')
        switches = [name for name in names if getattr(self, name)]
        return ', '.join([self.config.stem, self.dtype, *switches])


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    result = benchmark(choose_networks(args), args)
    if args.out:
        text = json.dumps(result, indent=2) + '\n'
        write_atomically(args.out, lambda partial: partial.write_text(text))
    print(format_result(result))


def choose_networks(args: argparse.Namespace) -> list[Network]:
    """The first network, and the second where an option asks for one."""
    names = [field.name for field in fields(Network)]
    first = Network(**{name: getattr(args, name) for name in names})
    given = {name: getattr(args, f'compare_{name}') for name in names}
    changes = {name: value for name, value in given.items() if value is not None}
    if 'config' in changes and 'checkpoint' not in changes:
        changes['checkpoint'] = None
    if not changes:
        return [first]
    second = replace(first, **changes)
    if second == first:
        raise ValueError(
            f'Both networks are {first}; let a --compare option differ from the first network.'
        )
    return [first, second]


def benchmark(networks: Sequence[Network], args: argparse.Namespace) -> dict:
    """Time the networks in turns.

    Returns:
        What was measured, as JSON has it: settings, and for each network its latency in
        milliseconds, its throughput in images a second and the seconds of each round; of two also
        the ratio.
    """
    device = torch.device(choose_device(args.device))
    runs = [prepare(network, args, device) for network in networks]
    progress = ProgressBar(args.warmup + args.rounds, file=sys.stderr)
    seconds = time_in_turns(runs, args.rounds, args.warmup, device, progress=progress.update)
    print(file=sys.stderr)
    result = {
        'settings': describe(args, device),
        'networks': [
            {
                'name': str(network),
                **{key: to_json(value) for key, value in asdict(network).items()},
                'latency_ms': asdict(summarize([second * 1e3 for second in own])),
                'images_per_second': asdict(summarize([args.batch_size / s for s in own])),
                'seconds': own,
            }
            for network, own in zip(networks, seconds, strict=True)
        ],
    }
    if len(networks) == 2:
        result['ratio'] = asdict(summarize(paired_ratios(*seconds)))
    return result


def prepare(
    network: Network, args: argparse.Namespace, device: torch.device
) -> Callable[[], object]:
    """Build a network and its input; the result runs it once."""
    config = read_model_config(network.config)
    model = build_model(config, network.checkpoint, device)
    if network.deploy or network.native:
        deploy(model, network.config, network.native)
    images = make_images(model, args, device)
    if network.channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    if network.compile:
        for part in (backbone_of(model), getattr(model, 'neck', None)):
            if part is not None:
                part.compile()
    scope = config.get('default_scope')
    predict = backbone_of(model) if args.backbone_only else whole(model, images)

    def run() -> object:
        with (
            torch.no_grad(),
            autocast(device, network.dtype),
            DefaultScope.overwrite_default_scope(scope),
        ):
            return predict(images)

    return run


def deploy(model: nn.Module, source: Path, native: bool = False) -> None:
    """Fold every RevCol of a model for inference."""
    revcols = find_revcols(model)
    if not revcols:
        raise ValueError(f'{source} has no RevCol, so there is nothing to deploy.')
    for revcol in revcols.values():
        revcol.switch_to_deploy(native=native)


def whole(model: nn.Module, images: Tensor) -> Callable[[Tensor], object]:
    """The whole model's inference, from normalized images to its results."""
    if backbone_of(model) is model:
        return model
    if hasattr(model, 'decode_head'):
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    metas = describe_batch(images)

    def predict(images: Tensor) -> list[BaseDataElement]:
        return model(images, [Sample(metainfo=meta) for meta in metas], mode='predict')

    return predict


def make_images(model: nn.Module, args: argparse.Namespace, device: torch.device) -> Tensor:
    """A batch of noise, or of one image many times."""
    if args.image is None:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(args.batch_size, 3, *args.shape, generator=generator).to(device)
    image = cover(read_image(args.image), *args.shape)
    return make_batch(model, [image] * args.batch_size, device)


def autocast(device: torch.device, dtype: str) -> AbstractContextManager:
    """Mixed precision, or none for float32."""
    if dtype == 'float32':
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, dtype))


def describe(args: argparse.Namespace, device: torch.device) -> dict:
    """What both networks share, and what they ran on."""
    is_cuda = device.type == 'cuda'
    return {
        'shape': list(args.shape),
        'batch_size': args.batch_size,
        'backbone_only': args.backbone_only,
        'image': to_json(args.image),
        'rounds': args.rounds,
        'warmup': args.warmup,
        'device': torch.cuda.get_device_name(device) if is_cuda else str(device),
        'threads': torch.get_num_threads(),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'machine': platform.machine(),
        'torch': torch.__version__,
    }


def to_json(value: object) -> object:
    """Paths as text; all else as it is."""
    return str(value) if isinstance(value, Path) else value


def format_result(result: dict) -> str:
    """The result as text."""
    settings = result['settings']
    part = 'backbone' if settings['backbone_only'] else 'whole model'
    height, width = settings['shape']
    lines = [
        f'{part}, {settings["batch_size"]} x 3 x {height} x {width}, {settings["device"]}, '
        f'{settings["threads"]} threads, PyTorch {settings["torch"]}, '
        f'{settings["rounds"]} rounds after {settings["warmup"]}',
    ]
    names = [network['name'] for network in result['networks']]
    width = max(map(len, names))
    for network in result['networks']:
        latency, speed = network['latency_ms'], network['images_per_second']
        lines.append(f'{network["name"]:<{width}}  {spread(latency)} ms  {spread(speed)} images/s')
    if 'ratio' in result:
        lines.append(f'{"first / second":<{width}}  {spread(result["ratio"])}')
    return '\n'.join(lines)


def spread(values: dict[str, float]) -> str:
    """Median and percentiles, four digits each."""
    return f'{values["median"]:.4g} [{values["low"]:.4g}, {values["high"]:.4g}]'


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path)
    parser.add_argument('--checkpoint', type=Path, help='trained weights of CONFIG')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='by autocast')
    parser.add_argument('--deploy', action='store_true', help='fold the RevCol first')
    parser.add_argument('--native', action='store_true', help='fold it, and compile its blocks')
    parser.add_argument(
        '--compile', action='store_true', help='torch.compile the backbone and the neck'
    )
    parser.add_argument('--channels-last', action='store_true')
    second = parser.add_argument_group('the second network, where it differs from the first')
    second.add_argument('--compare', dest='compare_config', type=Path, metavar='CONFIG2')
    second.add_argument('--compare-checkpoint', type=Path, metavar='CHECKPOINT2')
    second.add_argument('--compare-dtype', choices=DTYPES)
    for name in ('deploy', 'native', 'compile', 'channels-last'):
        second.add_argument(f'--compare-{name}', action=argparse.BooleanOptionalAction)
    shared = parser.add_argument_group('for both')
    shared.add_argument('--shape', type=int, nargs=2, default=(512, 512), metavar=('H', 'W'))
    shared.add_argument('--batch-size', type=positive_int, default=1)
    shared.add_argument('--image', type=Path, help='an image to use in place of noise')
    shared.add_argument('--backbone-only', action='store_true')
    shared.add_argument('--rounds', type=positive_int, default=20, help='timed turns; default 20')
    shared.add_argument('--warmup', type=int, default=5, help='turns before them; default 5')
    shared.add_argument('--threads', type=positive_int, help='of the CPU')
    shared.add_argument('--device', help='default: a GPU if there is one')
    shared.add_argument('--out', type=Path, help='also write a JSON file')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

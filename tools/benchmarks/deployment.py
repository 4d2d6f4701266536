"""A segmentor's results and latency in float32, bfloat16 and int8, in PyTorch and onnxruntime.

    python tools/benchmarks/deployment.py seg_configs/quickstart_upernet.py CHECKPOINT
    python tools/benchmarks/deployment.py CONFIG CHECKPOINT --shape 512 512 --out deployment.json

The mIoU is that of the config's test set and evaluator. int8 is static quantization, calibrated on
images of the training set. For latency all forms run in turns within one process, on one image of
the test set; a ratio is the median over the rounds of plain PyTorch's time over the form's.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from revcol_backbone.analysis.timing import Spread, paired_ratios, summarize, time_in_turns
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors
from revcol_backbone.engine.building import build_model
from revcol_backbone.export import (
    describe_input_and_output,
    load_onnx,
    make_exportable,
    part_of,
    quantize,
    trace,
    write_onnx,
)
from revcol_backbone.inference.loading import innermost_dataset, read_config

WARMUP = 5
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Result:
    """One form of the segmentor.

    Args:
        form: Its name.
        miou: In percent.
        megabytes: Of its weights, or of its file.
        milliseconds: For one image.
        speedup: Plain PyTorch's time over this form's, of each round.
    """

    form: str
    miou: float
    megabytes: float
    milliseconds: Spread
    speedup: Spread


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    config = read_config(args.config, package='mmseg')
    if args.data:
        use_data_root(config, args.data)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        results = benchmark(config, args)
    print(format_table(results))
    if args.out:
        content = {**describe(args), 'results': [asdict(result) for result in results]}
        write_atomically(
            args.out, lambda path: path.write_text(json.dumps(content, indent=2) + '\n')
        )


def benchmark(config: Config, args: argparse.Namespace) -> list[Result]:
    """Make every form of the segmentor, evaluate each, and time them in turns."""
    model = build_model(config, args.checkpoint)
    loader = Runner.build_dataloader(config.test_dataloader)
    with tempfile.TemporaryDirectory() as folder:
        forms = make_forms(model, config, args, Path(folder))
        mious = {}
        for form, (run, _) in forms.items():
            mious[form] = evaluate(model, run, loader, config)
            print(f'{form}: mIoU {mious[form]:.2f}', file=sys.stderr, flush=True)
        image = model.data_preprocessor(next(iter(loader)), False)['inputs'][:1].contiguous()
        if args.shape:
            image = F.interpolate(image, size=args.shape, mode='bilinear')
        seconds = time_in_turns(
            [lambda run=run: run(image) for run, _ in forms.values()],
            args.rounds,
            WARMUP,
            torch.device('cpu'),
        )
    print(f'latency of one image of {image.shape[-2]} x {image.shape[-1]}', file=sys.stderr)
    return [
        Result(
            form,
            mious[form],
            size / 1e6,
            summarize([1000 * value for value in own]),
            summarize(paired_ratios(seconds[0], own)),
        )
        for (form, (_, size)), own in zip(forms.items(), seconds, strict=True)
    ]


def make_forms(
    model: nn.Module, config: Config, args: argparse.Namespace, folder: Path
) -> dict[str, tuple[Run, int]]:
    """For each form what computes the logits of a batch, and the bytes of its weights or file."""
    plain = part_of(model, 'segmentor')
    deployed = copy.deepcopy(plain)
    deployed.backbone.switch_to_deploy()
    exported, quantized = folder / 'float32.onnx', folder / 'int8.onnx'
    with torch.no_grad():
        program = trace(make_exportable(plain), torch.zeros(1, 3, 128, 128))
    metadata = describe_input_and_output(model, 'segmentor', None)
    write_onnx(program, exported, ['logits'], metadata)
    quantize(exported, quantized, calibration_images(model, config, args.calibration_images))
    return {
        'PyTorch float32': (in_torch(plain), weights_of(plain)),
        'PyTorch float32, deployed': (in_torch(deployed), weights_of(deployed)),
        'PyTorch bfloat16, deployed': (in_torch(deployed, torch.bfloat16), weights_of(deployed)),
        'onnxruntime float32': (in_onnxruntime(exported, args), exported.stat().st_size),
        'onnxruntime int8': (in_onnxruntime(quantized, args), quantized.stat().st_size),
    }


def in_torch(graph: nn.Module, autocast: torch.dtype | None = None) -> Run:
    """Compute logits in PyTorch, by default in the dtype of the weights."""

    def run(image: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast('cpu', autocast, enabled=autocast is not None):
            return graph(image).float()

    return run


def in_onnxruntime(path: Path, args: argparse.Namespace) -> Run:
    """Compute logits in onnxruntime."""
    outputs = load_onnx(path, args.threads)
    return lambda image: outputs(image)[0]


def evaluate(model: nn.Module, run: Run, loader, config: Config) -> float:
    """The mIoU in percent, with the logits of a form in place of the model's own.

    Normalisation, padding, sliding windows and the choice of the largest logit are the model's.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')  # a table of all classes for each form is too much
    evaluator = Evaluator(config.test_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    model.encode_decode = lambda inputs, batch_img_metas: run(inputs)
    try:
        for batch in loader:
            with torch.no_grad():
                evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
        return float(evaluator.evaluate(len(loader.dataset))['mIoU'])
    finally:
        del model.encode_decode
        logger.setLevel(level)


def calibration_images(model: nn.Module, config: Config, number: int) -> Iterator[Tensor]:
    """Images of the training set, evenly over it, prepared as in a test."""
    dataset = innermost_dataset(config.train_dataloader.dataset)
    dataset = DATASETS.build({**dataset, 'pipeline': config.test_dataloader.dataset.pipeline})
    for index in range(0, len(dataset), max(1, len(dataset) // number)):
        sample = dataset[index]
        data = {'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]}
        yield model.data_preprocessor(data, False)['inputs']


def use_data_root(config: Config, root: Path) -> None:
    """Read the training and the test set from a folder."""
    for loader in (config.train_dataloader, config.test_dataloader):
        innermost_dataset(loader.dataset).data_root = str(root)


def weights_of(graph: nn.Module) -> int:
    """Bytes of the weights."""
    return sum(tensor.nbytes for tensor in graph.state_dict().values())


def format_table(results: Sequence[Result]) -> str:
    """One row for each form."""
    lines = [
        '| form | mIoU | MB | ms, median (10% to 90%) | speed-up |',
        '|---|--:|--:|--:|--:|',
    ]
    for row in results:
        time = row.milliseconds
        lines.append(
            f'| {row.form} | {row.miou:.2f} | {row.megabytes:.1f} | {time.median:.1f} '
            f'({time.low:.1f} to {time.high:.1f}) | {row.speedup.median:.2f} |'
        )
    return '\n'.join(lines)


def describe(args: argparse.Namespace) -> dict:
    """What was measured, and with what."""
    import onnxruntime

    return {
        'config': str(args.config),
        'shape': args.shape,
        'threads': args.threads,
        'rounds': args.rounds,
        'calibration_images': args.calibration_images,
        'machine': platform.machine(),
        'torch': torch.__version__,
        'onnxruntime': onnxruntime.__version__,
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, metavar='CONFIG', help='of a segmentor of mmseg')
    parser.add_argument('checkpoint', type=Path, metavar='CHECKPOINT', help='its trained weights')
    parser.add_argument('--data', type=Path, help="root of the data set; default: the config's")
    parser.add_argument(
        '--calibration-images',
        type=int,
        default=64,
        metavar='N',
        help='at least so many of the training set; default: %(default)s',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='resize the image whose latency is measured; default: as the test set has it',
    )
    parser.add_argument('--rounds', type=int, default=50, help='turns of each form; default: 50')
    parser.add_argument('--threads', type=int, default=2, help='default: %(default)s')
    parser.add_argument('--out', type=Path, help='also write the results here, as JSON')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

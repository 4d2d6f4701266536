"""Export a trained model, or a part of it, to ONNX or to torch.export's format.

The file takes `image`, a float batch (B, 3, H, W) that is normalized (and, for a detector, padded)
as the metadata in the file says. It is run after writing (ONNX by onnxruntime) and compared with
PyTorch on other and odd sizes; if they differ, no file is kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from revcol_backbone.checkpoints.pretrained import load_pretrained
from revcol_backbone.cli import report_errors
from revcol_backbone.engine.building import build_model, load_whole
from revcol_backbone.export import (
    DEFAULT_OPSET,
    PARTS,
    SMALLEST_OPSET,
    TOLERANCES,
    check_agreement,
    describe_input_and_output,
    load_onnx,
    load_program,
    make_exportable,
    part_of,
    parts_in_python,
    shapes_to_check,
    trace,
    write_onnx,
    write_program,
)
from revcol_backbone.inference.inferencer import read_dataset_meta
from revcol_backbone.inference.loading import read_config

EXAMPLES = """examples:
  # the whole segmentor, logits of the input's size
  %(prog)s seg_configs/revcol_t_upernet.py upernet.pth --part segmentor --out upernet.onnx
  # a detector's backbone and neck; what stays in Python is printed
  %(prog)s det_configs/revcol_t_cascade.py cascade.pth --part detector --out cascade.onnx
  # a pre-trained backbone for torch.export, in half precision
  %(prog)s det_configs/revcol_t_cascade.py revcol_tiny_1k.pth --part backbone \\
      --format torch-export --dtype bfloat16 --out revcol_tiny.pt2
"""
SUFFIXES = {'onnx': '.onnx', 'torch-export': '.pt2'}
DTYPES = {str(dtype).removeprefix('torch.'): dtype for dtype in TOLERANCES}
IN_PYTHON = (
    'These stay in Python and take the exported features: anchors or queries, proposals, box '
    'decoding, NMS, RoIAlign, and mask pasting.'
)


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``None`` means the command line of this process."""
    export(parse_arguments(arguments))


def export(args: argparse.Namespace) -> None:
    """Load, trace, write, compare, and only then put the file in its place.

    Raises:
        ValueError: An argument, the checkpoint or the result is not right.
        OSError: A file is missing, exists already or cannot be written.
        ImportError: onnx, onnxscript or onnxruntime is not installed.
    """
    check_arguments(args)
    model, classes = load_model(args)
    reference = part_of(model, args.part)
    graph = make_exportable(reference, deploy=not args.no_deploy).to(DTYPES[args.dtype])
    metadata = describe_input_and_output(model, args.part, classes)
    print(f'tracing {args.part} at {args.batch_size} x 3 x {args.shape[0]} x {args.shape[1]} ...')
    image = torch.zeros(args.batch_size, 3, *args.shape, dtype=DTYPES[args.dtype])
    with torch.no_grad():
        program = trace(graph, image, dynamic=not args.static)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out.parent, prefix=f'.{args.out.name}.') as folder:
        written = Path(folder) / args.out.name
        names = graph.name_outputs(len(program.graph_signature.user_outputs))
        run = write_and_load(args, program, written, names, metadata)
        shapes = shapes_to_check(args.batch_size, *args.shape, dynamic=not args.static)
        for shape, error in check_agreement(run, reference, shapes, DTYPES[args.dtype]):
            size = ' x '.join(map(str, (shape[0], 3, *shape[1:])))
            print(f'{size}: largest relative error {error:.1e}', flush=True)
        # The weights of a large ONNX file, which lie beside it, go first.
        for file in sorted(Path(folder).iterdir(), key=lambda file: file == written):
            file.replace(args.out.with_name(file.name))
    print(f'wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)')
    if args.part == 'detector':
        print(f'{IN_PYTHON}\nNot exported: {", ".join(parts_in_python(model))}')


def write_and_load(
    args: argparse.Namespace,
    program: torch.export.ExportedProgram,
    path: Path,
    output_names: Sequence[str],
    metadata: dict[str, str],
) -> Callable[[Tensor], list[Tensor]]:
    """Write the file in the format that was asked for; returns what runs it."""
    if args.format == 'onnx':
        write_onnx(program, path, output_names, metadata, args.opset)
        return load_onnx(path)
    write_program(program, path, metadata)
    return load_program(path)


def load_model(args: argparse.Namespace) -> tuple[nn.Module, Sequence[str] | None]:
    """Build the config's model, load the checkpoint, and find the names of the classes."""
    config = read_config(args.config)
    model = build_model(config)
    stored = {}
    if args.random_weights:
        print('using random weights')
    elif args.part == 'backbone':
        load_pretrained(model.backbone, args.checkpoint)
    else:
        stored = load_whole(model, Path(args.checkpoint))
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return model.eval(), read_dataset_meta(stored, config)['classes']


def check_arguments(args: argparse.Namespace) -> None:
    """Check what the parser cannot, before a long run."""
    if (args.checkpoint is None) != args.random_weights:
        raise ValueError('give either a CHECKPOINT or --random-weights.')
    if args.out.suffix != SUFFIXES[args.format]:
        raise ValueError(
            f'{args.out} must end in {SUFFIXES[args.format]} for --format {args.format}.'
        )
    if args.out.exists() and not args.overwrite:
        raise FileExistsError(f'{args.out} exists; give another name or --overwrite.')
    if args.format == 'onnx' and args.dtype == 'bfloat16':
        raise ValueError(
            'onnxruntime has no bfloat16 convolutions on a CPU, so the file could not be checked; '
            'use --dtype float32 or float16, or --format torch-export.'
        )
    if args.opset < SMALLEST_OPSET:
        raise ValueError(f'--opset {args.opset} is not allowed; give {SMALLEST_OPSET} or more.')
    if args.batch_size < 1 or min(args.shape) < 1:
        raise ValueError('--batch-size and --shape take positive integers.')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, metavar='CONFIG', help='config of mmdet or mmseg')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        metavar='CHECKPOINT',
        help='trained weights of the whole model; for --part backbone also of a backbone alone',
    )
    parser.add_argument('--format', choices=SUFFIXES, default='onnx', help='default: %(default)s')
    parser.add_argument('--part', choices=PARTS, required=True, help='what to export')
    parser.add_argument('--out', type=Path, required=True, help='file to write, .onnx or .pt2')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        default=(512, 512),
        metavar=('H', 'W'),
        help='size to trace with, and to check among others; default: 512 512',
    )
    parser.add_argument('--batch-size', type=int, default=1, metavar='N', help='default: 1')
    parser.add_argument(
        '--static',
        action='store_true',
        help='fix batch and size instead of keeping them dynamic',
    )
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='default: %(default)s')
    parser.add_argument(
        '--opset', type=int, default=DEFAULT_OPSET, help='ONNX opset; default: %(default)s'
    )
    parser.add_argument(
        '--no-deploy',
        action='store_true',
        help='do not fold batch norms and layers (switch_to_deploy); the file is larger',
    )
    parser.add_argument(
        '--random-weights', action='store_true', help='export without a checkpoint, to try it'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace the file if it exists')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

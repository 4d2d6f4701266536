"""Make a small, plain checkpoint of a published or own one.

What a training script saves beside the weights (optimizer, schedules, gradient scaler, logs, a
second copy of the weights for moving averages) is always omitted; of `meta`, numbers, strings and
lists are kept. No code of the input is run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from revcol_backbone import RevCol
from revcol_backbone.checkpoints.detectron2_layout import from_detectron2, to_detectron2
from revcol_backbone.checkpoints.reading import list_first, read_checkpoint, weights_entry
from revcol_backbone.checkpoints.state_dict import (
    check_match,
    describe_network,
    infer_architecture,
    is_plain,
    kernel_sizes,
    pad_kernels,
    select_backbone,
)
from revcol_backbone.checkpoints.writing import HASH_DIGITS, SUFFIXES, write_checkpoint
from revcol_backbone.cli import report_errors

EXAMPLES = """examples:
  # RevCol-H for downstream use: backbone only, 7x7 kernels, half the size
  %(prog)s revcol_huge_megdata.pth revcol_huge_k7.pth --strip-heads --kernel-size 7 --dtype float16
  # publish a detector trained here, as work_dirs/revcol_t_cascade-<8 digits of its hash>.pth
  %(prog)s work_dirs/epoch_36.pth work_dirs/revcol_t_cascade.pth --publish
  # a Cascade Mask R-CNN of MMDetection for Detectron2, and one of Detectron2 for MMDetection
  %(prog)s work_dirs/epoch_36.pth model_d2.pth --to detectron2
  %(prog)s output/model_final.pth model_mmdet.pth --from detectron2
  # for libraries that read safetensors
  %(prog)s revcol_tiny_1k.pth revcol_tiny_1k.safetensors
"""
LIBRARIES = ('mmdet', 'detectron2')
DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


@dataclass(frozen=True)
class Conversion:
    """What to change in a checkpoint.

    Args:
        strip_heads: Keep only the backbone, under its own keys.
        kernel_size: Zero-pad the depthwise kernels to this odd size; ``None`` keeps them.
        dtype: Type of the floating-point weights, a name in :data:`DTYPES`; ``None`` keeps it.
        origin: Library of the detector that is read, a name in :data:`LIBRARIES`.
        destination: Library of the detector that is written.
    """

    strip_heads: bool = False
    kernel_size: int | None = None
    dtype: str | None = None
    origin: str = 'mmdet'
    destination: str = 'mmdet'


def convert_checkpoint(
    source: Path,
    target: Path,
    conversion: Conversion,
    publish: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a converted copy of a checkpoint and print what was changed and omitted.

    Args:
        source: The file to read.
        target: The file to write; its suffix decides between ``torch.save`` and safetensors.
        conversion: What to change.
        publish: Put the first digits of the written file's sha256 into its name.
        overwrite: Replace the file to write if it exists. The file to read is never replaced.

    Returns:
        The path of the written file.

    Raises:
        ValueError: The input is not a checkpoint, or cannot be converted in this way.
        OSError: A file is missing, exists already, or cannot be read or written.
    """
    if not source.is_file():
        raise FileNotFoundError(f'{source} is not a file; give the checkpoint to convert.')
    if target.suffix not in SUFFIXES:
        raise ValueError(f'{target} must end in one of {", ".join(SUFFIXES)}.')
    if target.exists() and target.samefile(source):
        raise FileExistsError(f'{target} is the input itself; give another name for the output.')
    if target.exists() and not (publish or overwrite):
        raise FileExistsError(f'{target} exists; give another name or --overwrite.')

    checkpoint = read_checkpoint(source)
    entry = weights_entry(checkpoint, source)
    weights = convert_weights(
        checkpoint if entry is None else checkpoint[entry], conversion, source
    )
    omitted = set(checkpoint) - {entry} if entry else set()
    meta = {}
    if target.suffix != '.safetensors' and 'meta' in omitted:
        meta = plain_entries(checkpoint['meta'])
        omitted.remove('meta')
    if omitted:
        print(f'omitted {", ".join(sorted(map(str, omitted)))}')
    is_renamed = conversion.destination != conversion.origin
    entry = 'model' if is_renamed and conversion.destination == 'detectron2' else 'state_dict'
    return write_checkpoint(weights, meta, target, publish, entry)


def convert_weights(
    weights: Mapping[str, Any], conversion: Conversion, source: Path
) -> dict[str, Tensor]:
    """Convert a state dict, and print what was changed; errors as in :func:`convert_checkpoint`."""
    if conversion.strip_heads:
        selected = select_backbone(weights, source)
        _check_backbone(selected, source)
        print(f'kept {len(selected)} of {len(weights)} tensors: {describe_network(selected)}')
        weights = selected
    unusable = [key for key, value in weights.items() if not is_plain(value)]
    if unusable:
        raise ValueError(
            f'{source} holds entries that are not dense real tensors ({list_first(unusable)}); '
            'they cannot be converted.'
        )
    if conversion.kernel_size is not None:
        weights = _pad(weights, conversion.kernel_size, source)
    if conversion.dtype is not None:
        weights = _cast(weights, conversion.dtype, source)
    if conversion.destination != conversion.origin:
        weights = _rename(weights, conversion.destination, source)
    return dict(weights)


def plain_entries(meta: Any) -> dict[str, Any]:
    """Keep the entries of ``meta`` that every reader takes: numbers, strings and lists of them."""
    kept = {}
    for key, value in meta.items() if isinstance(meta, Mapping) else ():
        try:
            kept[key] = _plain_copy(value)
        except TypeError:
            print(f'omitted {key} of meta')
    return kept


def _plain_copy(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {_plain_copy(key): _plain_copy(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain_copy, value))
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise TypeError(type(value))


def _check_backbone(weights: Mapping[str, Tensor], source: Path) -> None:
    """Check that a stripped file will load, before anything is written."""
    arch = infer_architecture(weights)
    if arch is None:
        raise ValueError(
            f'{source} holds no RevCol backbone, but {describe_network(weights)}; omit '
            '--strip-heads.'
        )
    with torch.device('meta'):
        expected = RevCol(arch, kernel_size=max(kernel_sizes(weights), default=None)).state_dict()
    check_match(weights, weights, expected, source)


def _pad(weights: Mapping[str, Tensor], kernel_size: int, source: Path) -> dict[str, Tensor]:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'--kernel-size {kernel_size} is not allowed; give a positive odd number.')
    sizes = kernel_sizes(weights)
    if not sizes:
        raise ValueError(f'{source} holds no depthwise kernels of a RevCol; omit --kernel-size.')
    if sizes[-1] > kernel_size:
        raise ValueError(
            f'{source} holds {sizes[-1]}x{sizes[-1]} kernels, which cannot become smaller; give '
            f'--kernel-size {sizes[-1]} or more.'
        )
    padded, keys = pad_kernels(weights, kernel_size)
    print(f'zero-padded {len(keys)} depthwise kernels to {kernel_size}x{kernel_size}')
    return padded


def _rename(weights: Mapping[str, Tensor], library: str, source: Path) -> dict[str, Tensor]:
    if library == 'mmdet':
        return from_detectron2(weights, source)
    renamed, omitted = to_detectron2(weights, source)
    if omitted:
        print(f'omitted {len(omitted)} tensors of the mask heads that Detectron2 does not have')
    return renamed


def _cast(weights: Mapping[str, Tensor], dtype: str, source: Path) -> dict[str, Tensor]:
    cast = {
        key: value.to(DTYPES[dtype]) if value.is_floating_point() else value
        for key, value in weights.items()
    }
    overflown = [
        key
        for key, value in cast.items()
        if value.is_floating_point()
        and not value.isfinite().all()
        and weights[key].isfinite().all()
    ]
    if overflown:
        raise ValueError(
            f'{source} holds values too large for {dtype} ({list_first(overflown)}); use bfloat16.'
        )
    return cast


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, metavar='INPUT', help='checkpoint to read')
    parser.add_argument(
        'target',
        type=Path,
        metavar='OUTPUT',
        help=f'file to write; its suffix ({", ".join(SUFFIXES)}) decides the format',
    )
    parser.add_argument(
        '--strip-heads',
        action='store_true',
        help='keep only the RevCol backbone, under its own keys, and check that it is complete',
    )
    parser.add_argument(
        '--kernel-size',
        type=int,
        metavar='K',
        help='zero-pad the depthwise kernels to K x K (odd); the network stays the same function',
    )
    parser.add_argument(
        '--dtype', choices=DTYPES, help='type of the floating-point weights (default: as stored)'
    )
    parser.add_argument(
        '--from',
        dest='origin',
        choices=LIBRARIES,
        default='mmdet',
        help='library of the detector in INPUT (default mmdet)',
    )
    parser.add_argument(
        '--to',
        dest='destination',
        choices=LIBRARIES,
        default='mmdet',
        help='library that OUTPUT is for (default mmdet); only Cascade Mask R-CNN with FPN',
    )
    parser.add_argument(
        '--publish',
        action='store_true',
        help=f'add the first {HASH_DIGITS} digits of the sha256 of the output to its name',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace OUTPUT if it exists')
    return parser.parse_args(arguments)


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    conversion = Conversion(
        args.strip_heads, args.kernel_size, args.dtype, args.origin, args.destination
    )
    path = convert_checkpoint(args.source, args.target, conversion, args.publish, args.overwrite)
    print(f'wrote {path} ({path.stat().st_size / 1e6:.1f} MB)')


if __name__ == '__main__':
    sys.exit(main())

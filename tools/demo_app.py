"""Try a trained detector or segmentor in the browser.

The page is served on this machine only, without a public link; nothing is sent or downloaded, and
images are not kept.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from revcol_backbone.cli import port, report_errors
from revcol_backbone.inference import load_predictor
from revcol_backbone.inference.media import IMAGE_EXTENSIONS

EXAMPLES = """examples:
  %(prog)s det_configs/quickstart_cascade.py work_dirs/quickstart/cascade/epoch_2.pth \\
      --examples data/digits/images/val
"""
DEFAULT_MAX_UPLOAD = 20
EXAMPLES_SHOWN = 8


def find_examples(folder: Path) -> list[Path]:
    """Return the first images of a folder, sorted by name.

    Raises:
        ValueError: It is not a folder, or has no images.
    """
    if not folder.is_dir():
        raise ValueError(f'{folder} is not a folder; correct --examples.')
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_EXTENSIONS)
    if not images:
        raise ValueError(
            f'{folder} has no images ({", ".join(IMAGE_EXTENSIONS)}); omit --examples.'
        )
    return images[:EXAMPLES_SHOWN]


def run_demo(args: argparse.Namespace) -> None:
    """Load the model, then serve the page until the process is interrupted.

    Raises:
        ValueError: Something given cannot be used.
        OSError: A file is missing, or the port is taken.
        ImportError: A package is missing.
    """
    try:
        from revcol_backbone.demo import build_page, serve
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise ImportError(
            "Gradio is not installed; run `pip install 'revcol-backbone[demo]'`."
        ) from None
    examples = find_examples(args.examples) if args.examples else []
    predictor = load_predictor(args.config, args.checkpoint, args.device)
    serve(
        lambda: build_page(predictor, args.config, examples),
        args.host,
        args.port,
        args.max_upload,
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, metavar='CONFIG', help='config of mmdet or mmseg')
    parser.add_argument('checkpoint', type=Path, metavar='CHECKPOINT', help='its checkpoint')
    parser.add_argument('--device', help='torch device (default: a GPU if there is one)')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on (default: %(default)s, this machine only)',
    )
    parser.add_argument('--port', type=port, help='port (default: the first free one from 7860)')
    parser.add_argument(
        '--max-upload',
        type=_megabytes,
        default=DEFAULT_MAX_UPLOAD,
        metavar='MB',
        help='size limit of an uploaded image in MB (default: %(default)s)',
    )
    parser.add_argument(
        '--examples',
        type=Path,
        metavar='DIR',
        help=f'show the first {EXAMPLES_SHOWN} images of this folder, to click on',
    )
    return parser.parse_args(arguments)


def _megabytes(text: str) -> float:
    size = float(text)
    if not 0 < size < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is not a size; give a positive number of MB')
    return size


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    # About losses, which only training uses, and about the packages' own code.
    warnings.filterwarnings('ignore', module=r'(mmdet|mmengine|mmseg)\.')
    warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
    run_demo(args)


if __name__ == '__main__':
    sys.exit(main())

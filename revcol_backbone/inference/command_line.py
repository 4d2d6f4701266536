"""The command line that detection and segmentation share."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

from revcol_backbone.cli import INTERRUPTED
from revcol_backbone.inference.files import Outcome, predict_files
from revcol_backbone.inference.loading import load_predictor
from revcol_backbone.inference.predictor import SCORE_THRESHOLD


def run(package: str, description: str, arguments: Sequence[str] | None = None) -> int:
    """Predict as the command line says.

    Args:
        package: ``'mmdet'`` or ``'mmseg'``, whose configs are taken.
        description: What the command does, for its help.
        arguments: The command line; ``None`` means that of this process.

    Returns:
        The exit status: 0, 1 if something could not be predicted, 130 after an interruption.

    Raises:
        ImportError, OSError, ValueError: Nothing could be predicted; the message says why.
    """
    args = _parse(package, description, arguments)
    # About losses, which only training uses, and about the packages' own code.
    warnings.filterwarnings('ignore', module=r'(mmdet|mmengine|mmseg)\.')
    try:
        outcome = _predict(package, args)
    except KeyboardInterrupt:
        print('Interrupted; the same command goes on where it stopped.', file=sys.stderr)
        return INTERRUPTED
    _report(outcome)
    return 1 if outcome.failures else 0


def _parse(package: str, description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', metavar='CONFIG', help=f'a config of {package}')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its checkpoint, a file')
    parser.add_argument(
        'input',
        metavar='INPUT',
        help='a picture, a video, a folder or a glob in quotes (`**` for any depth)',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='where the results go'
    )
    if package == 'mmdet':
        parser.add_argument(
            '--score-thr',
            type=float,
            default=SCORE_THRESHOLD,
            metavar='S',
            help='leave out detections with a lower score, 0 to 1 (default: %(default)s)',
        )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='pictures or tiles that go through the model together (default: %(default)s)',
    )
    parser.add_argument('--device', help='as of torch (default: a GPU if there is one, or cpu)')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation by the config's tta_model and tta_pipeline",
    )
    parser.add_argument(
        '--tile', type=int, metavar='SIZE', help='cut larger pictures into tiles of SIZE pixels'
    )
    parser.add_argument(
        '--overlap',
        type=int,
        metavar='N',
        help='pixels that neighbouring tiles share (default: a quarter of SIZE)',
    )
    parser.add_argument(
        '--no-pictures', dest='pictures', action='store_false', help='write no annotated pictures'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change settings of the config',
    )
    args = parser.parse_args(arguments)
    if args.overlap is not None and args.tile is None:
        parser.error('--overlap is for --tile, which is not given')
    return args


def _predict(package: str, args: argparse.Namespace) -> Outcome:
    predictor = load_predictor(
        args.config,
        args.checkpoint,
        args.device,
        package=package,
        cfg_options=args.cfg_options,
        batch_size=args.batch_size,
        tta=args.tta,
        tile=args.tile,
        overlap=args.overlap,
    )
    return predict_files(
        predictor,
        args.input,
        args.out,
        score_threshold=getattr(args, 'score_thr', SCORE_THRESHOLD),
        pictures=args.pictures,
    )


def _report(outcome: Outcome) -> None:
    if outcome.left_out:
        names = ', '.join(path.name for path in outcome.left_out[:3])
        print(f'left out, as neither pictures nor videos: {len(outcome.left_out)} files ({names})')
    for doubt in outcome.doubts:
        print(f'note: {doubt}', file=sys.stderr)
    for failure in outcome.failures:
        print(f'failed: {failure}', file=sys.stderr)
    print(
        f'{len(outcome.done)} files have results ({outcome.earlier} of them from earlier runs), '
        f'{len(outcome.failures)} failed' + (f'; see {outcome.summary}' if outcome.summary else '')
    )

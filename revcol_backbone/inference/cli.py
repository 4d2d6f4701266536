"""The command line that detection and segmentation share."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from revcol_backbone.cli import INTERRUPTED, ConfigOptions
from revcol_backbone.inference.loading import load_predictor
from revcol_backbone.inference.predictor import SCORE_THRESHOLD
from revcol_backbone.inference.run import Outcome, predict_files


def run(package: str, description: str, arguments: Sequence[str] | None = None) -> int:
    """Predict what the command line asks for.

    Args:
        package: ``'mmdet'`` or ``'mmseg'``, whose configs are accepted.
        description: Description of the command for its help.
        arguments: The command line; ``None`` means that of this process.

    Returns:
        The exit status: 0, 1 if a file could not be predicted, 130 after an interruption.

    Raises:
        ImportError, OSError, ValueError: Nothing could be predicted; the message says why.
    """
    args = _parse(package, description, arguments)
    # About losses, which only training uses, and about the packages' own code.
    warnings.filterwarnings('ignore', module=r'(mmdet|mmengine|mmseg)\.')
    try:
        outcome = _predict(package, args)
    except KeyboardInterrupt:
        print('interrupted; run the same command again to resume', file=sys.stderr)
        return INTERRUPTED
    _report(outcome)
    return 1 if outcome.failures else 0


def _parse(package: str, description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', metavar='CONFIG', help=f'config of {package}')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its checkpoint, a file')
    parser.add_argument(
        'input',
        metavar='INPUT',
        help='image, video, folder or quoted glob (`**` for any depth)',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='folder for the results'
    )
    if package == 'mmdet':
        parser.add_argument(
            '--score-thr',
            type=float,
            default=SCORE_THRESHOLD,
            metavar='S',
            help='drop detections with a lower score, 0 to 1 (default: %(default)s)',
        )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images, or tiles of one image, in a forward pass (default: %(default)s)',
    )
    parser.add_argument('--device', help='torch device (default: a GPU if there is one, else cpu)')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation with the config's tta_model and tta_pipeline",
    )
    parser.add_argument(
        '--tile', type=int, metavar='SIZE', help='cut larger images into tiles of SIZE pixels'
    )
    parser.add_argument(
        '--overlap',
        type=int,
        metavar='N',
        help='pixels that neighboring tiles share (default: a quarter of SIZE)',
    )
    parser.add_argument(
        '--no-visualizations',
        dest='visualizations',
        action='store_false',
        help='do not draw the predictions',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    args = parser.parse_args(arguments)
    if args.overlap is not None and args.tile is None:
        parser.error('--overlap needs --tile')
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
        visualizations=args.visualizations,
    )


def _report(outcome: Outcome) -> None:
    if outcome.skipped:
        names = ', '.join(path.name for path in outcome.skipped[:3])
        print(f'skipped {len(outcome.skipped)} files that are not images or videos ({names})')
    for warning in outcome.warnings:
        print(f'warning: {warning}', file=sys.stderr)
    for failure in outcome.failures:
        print(f'failed: {failure}', file=sys.stderr)
    print(
        f'{len(outcome.done)} files have results ({outcome.earlier} of them from earlier runs), '
        f'{len(outcome.failures)} failed' + (f'; see {outcome.summary}' if outcome.summary else '')
    )

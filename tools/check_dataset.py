"""Check that a data set is complete, undamaged and the one that the configs mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from revcol_backbone.cli import report_errors
from revcol_backbone.dataset_check import LAYOUTS, check_dataset
from revcol_backbone.dataset_check.check import DEFAULT_SAMPLE

EXAMPLES = """examples:
  %(prog)s coco data/coco
  %(prog)s ade20k data/ade/ADEChallengeData2016 --splits val --sample 2000
  %(prog)s coco data/my_subset --counts 800 200
"""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', choices=LAYOUTS, help='the data set')
    parser.add_argument('root', type=Path, metavar='ROOT', help="its folder, a config's data_root")
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=('train', 'val'),
        default=('train', 'val'),
        help='what to check (default: both)',
    )
    parser.add_argument(
        '--sample',
        type=int,
        default=DEFAULT_SAMPLE,
        metavar='N',
        help='images to decode in each split, with their annotations (default: %(default)s)',
    )
    parser.add_argument(
        '--counts',
        nargs='+',
        type=int,
        metavar='N',
        help='images in each split, for a subset (default: those of the published data set)',
    )
    return parser.parse_args(arguments)


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the check; the exit status is 1 if there are problems."""
    args = parse_arguments(arguments)
    report = check_dataset(args.name, args.root, args.splits, args.sample, args.counts)
    for finding in report.findings:
        print(finding)
    for number, problem in enumerate(report.problems, start=1):
        print(f'problem {number}: {problem}')
    title = LAYOUTS[args.name].title
    if report.problems:
        count = len(report.problems)
        raise ValueError(
            f'{title} in {args.root} is not usable: {count} problem{"s" if count > 1 else ""}'
        )
    print(f'{title} in {args.root} is complete')


if __name__ == '__main__':
    sys.exit(main())

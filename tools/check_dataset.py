"""Check a data set before a long run: complete, undamaged, and annotations that fit the images.

Checks a published data set by its name and folder, or any other: `coco-format` takes an annotation
file and the folder of its images, `label-maps` the folder of the images and that of their label
maps. All annotations and, for data sets of your own, all image headers are checked; some images are
decoded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from revcol_backbone.cli import positive_int, report_errors
from revcol_backbone.dataset_check import (
    DEFAULT_SAMPLE,
    LAYOUTS,
    Report,
    check_coco_dataset,
    check_dataset,
    check_label_map_dataset,
)

EXAMPLES = """examples:
  %(prog)s coco data/coco
  %(prog)s ade20k data/ade/ADEChallengeData2016 --splits val --sample 2000
  %(prog)s coco data/my_subset --counts 800 200
  %(prog)s coco-format data/cats/train.json data/cats/train
  %(prog)s label-maps data/roads/images data/roads/labels --classes 19
"""
OTHERS = {
    'coco-format': 'an annotation file and a folder of images',
    'label-maps': 'a folder of images and a folder of label maps',
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', choices=[*LAYOUTS, *OTHERS], help='the data set, or its format')
    parser.add_argument(
        'paths', type=Path, nargs='+', metavar='PATH', help='its data_root, or its two parts'
    )
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=('train', 'val'),
        default=('train', 'val'),
        help='splits of a published data set to check (default: both)',
    )
    parser.add_argument(
        '--sample',
        type=int,
        default=DEFAULT_SAMPLE,
        metavar='N',
        help='number of images to decode in each split (default: %(default)s)',
    )
    parser.add_argument(
        '--counts',
        nargs='+',
        type=int,
        metavar='N',
        help='images in each split, for a subset (default: those of the published data set)',
    )
    parser.add_argument(
        '--classes',
        type=positive_int,
        metavar='N',
        help='classes in label maps: labels are 0 to N - 1, and 255 is ignored (default: any)',
    )
    args = parser.parse_args(arguments)
    if args.name in OTHERS and len(args.paths) != 2:
        parser.error(f'{args.name} takes two paths: {OTHERS[args.name]}')
    if args.name in LAYOUTS and len(args.paths) != 1:
        parser.error(f'{args.name} takes one path, its data_root')
    return args


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the check; the exit status is 1 if there are problems."""
    args = parse_arguments(arguments)
    report = check(args)
    for finding in report.findings:
        print(finding)
    for number, problem in enumerate(report.problems, start=1):
        print(f'problem {number}: {problem}')
    title = LAYOUTS[args.name].title if args.name in LAYOUTS else 'the data set'
    where = ' and '.join(map(str, args.paths))
    if report.problems:
        count = len(report.problems)
        raise ValueError(f'{title} in {where} is not usable: {count} problem{"s" * (count > 1)}')
    print(f'{title} in {where} is complete')


def check(args: argparse.Namespace) -> Report:
    """Run the check that the arguments ask for."""
    if args.name == 'coco-format':
        return check_coco_dataset(*args.paths, args.sample)
    if args.name == 'label-maps':
        return check_label_map_dataset(*args.paths, args.classes, args.sample)
    return check_dataset(args.name, args.paths[0], args.splits, args.sample, args.counts)


if __name__ == '__main__':
    sys.exit(main())

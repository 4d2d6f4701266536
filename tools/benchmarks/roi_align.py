"""The gradient of average RoIAlign on CPUs: matrix products beside torchvision's kernel.

    python tools/benchmarks/roi_align.py
    python tools/benchmarks/roi_align.py --regions 2000 --threads 1

The levels are those of a feature pyramid for an image of 800 x 1344, with regions of the sizes that
Faster R-CNN assigns to each. Both run in turns within one process; a ratio is the median over the
rounds of torchvision's time over ours in that round.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from revcol_backbone.analysis.timing import paired_ratios, summarize, time_in_turns
from revcol_backbone.cli import positive_int, report_errors
from revcol_backbone.mmcv_ops.roi_align_gradient import average_gradient

IMAGE = (800, 1344)
CHANNELS = 256
BINS = (7, 7)
# Stride of a level, and the sides of its regions in pixels.
LEVELS = {4: (8, 112), 8: (112, 224), 16: (224, 448), 32: (448, 800)}


@report_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; ``None`` means the command line of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--regions', type=positive_int, default=512, help='default: %(default)s')
    parser.add_argument('--rounds', type=positive_int, default=7, help='default: %(default)s')
    parser.add_argument('--threads', type=positive_int)
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f'{args.regions} regions, {CHANNELS} channels, {torch.get_num_threads()} threads\n')
    print('| stride | torchvision, ms | ours, ms | torchvision / ours |\n|--:|--:|--:|--:|')
    for stride, sides in LEVELS.items():
        shape = (1, CHANNELS, *(side // stride for side in IMAGE))
        regions = make_regions(args.regions, *sides)
        gradient = torch.randn(args.regions, CHANNELS, *BINS)
        kernel = functools.partial(
            torch.ops.torchvision._roi_align_backward,
            *(gradient, regions, 1 / stride, *BINS, *shape, 0, True),
        )
        ours = functools.partial(average_gradient, gradient, regions, 1 / stride, shape, 0, True)
        torch.testing.assert_close(ours(), kernel(), rtol=1e-4, atol=1e-4)
        seconds = time_in_turns([kernel, ours], args.rounds, 1, torch.device('cpu'))
        first, second = (summarize(own).median * 1e3 for own in seconds)
        ratio = summarize(paired_ratios(*seconds)).median
        print(f'| {stride} | {first:.1f} | {second:.1f} | {ratio:.1f} |', flush=True)


def make_regions(count: int, smallest: int, largest: int) -> Tensor:
    """Regions (R, 5) inside the image, with sides between two bounds."""
    extent = torch.tensor(IMAGE[::-1])
    size = smallest + (largest - smallest) * torch.rand(count, 2)
    corner = (extent - size) * torch.rand(count, 2)
    return torch.cat([torch.zeros(count, 1), corner, corner + size], 1)


if __name__ == '__main__':
    sys.exit(main())

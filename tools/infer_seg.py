"""Segment images and videos: color overlays with a legend, label maps, shares of the classes.

Writes DIR/visualizations, DIR/label_maps (PNG, a label for each pixel) and DIR/class_shares.csv.
An interrupted run resumes when it is started again. The exit status is 1 if a file could not be
predicted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from revcol_backbone.cli import report_errors
from revcol_backbone.inference.cli import run


@report_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; ``None`` means the command line of this process."""
    return run('mmseg', __doc__, arguments)


if __name__ == '__main__':
    sys.exit(main())

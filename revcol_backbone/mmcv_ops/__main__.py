"""``python -m revcol_backbone.mmcv_ops install | uninstall | status``."""

import argparse
import sys
from collections.abc import Sequence

from revcol_backbone.cli import report_errors
from revcol_backbone.mmcv_ops import install, status, uninstall


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: The command and its options. Defaults to those of the process.
    """
    parser = argparse.ArgumentParser(
        prog='python -m revcol_backbone.mmcv_ops',
        description="Stand-in for mmcv's compiled operators (mmcv._ext) beside mmcv-lite.",
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, text in {
        'install': 'make mmcv.ops importable in every process of this interpreter',
        'uninstall': 'remove what install wrote',
    }.items():
        command = commands.add_parser(name, help=text)
        command.add_argument(
            '--directory',
            help="folder that Python reads path files from (default: this interpreter's "
            'site-packages)',
        )
    commands.add_parser('status', help='say where mmcv._ext comes from')
    given = parser.parse_args(arguments)
    if given.command == 'status':
        print(status())
    else:
        print({'install': install, 'uninstall': uninstall}[given.command](given.directory))


if __name__ == '__main__':
    sys.exit(main())

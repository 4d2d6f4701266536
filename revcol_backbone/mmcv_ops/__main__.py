"""``python -m revcol_backbone.mmcv_ops install | uninstall | status``."""

import argparse
import sys

from revcol_backbone.mmcv_ops import InstallationError, install, status, uninstall


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit status.

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
        return 0
    try:
        print({'install': install, 'uninstall': uninstall}[given.command](given.directory))
    except InstallationError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""``python -m revcol_cli``, the same as ``revcol``."""

import sys

from revcol_cli.commands import main

if __name__ == '__main__':
    sys.exit(main())

"""Running the training and test scripts of the library that a config belongs to."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from revcol_backbone.cli.errors import report_errors
from revcol_backbone.engine.building import read_model_config

LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain')


def run_library_script(name: str) -> None:
    """Run ``tools/NAME.py`` of a library with the command line of this process.

    What goes wrong before the script starts is one line of error. What goes wrong in it keeps its
    trace, for it may lie in the user's own code.

    Args:
        name: ``'train'`` or ``'test'``.
    """
    found = []
    status = report_errors(lambda _: found.append(find_library_script(name, sys.argv[1:])))()
    if status:
        sys.exit(status)
    runpy.run_path(str(found[0]), run_name='__main__')


def find_library_script(name: str, arguments: Sequence[str]) -> Path:
    """Find the script of the library that is the ``default_scope`` of a command line's config.

    Without a config, as for ``--help``, the library is the first that is installed.

    Args:
        name: ``'train'`` or ``'test'``.
        arguments: The command line, in which the first file that ends in ``.py`` is the config.

    Raises:
        ValueError: The config belongs to none of the libraries.
        ImportError: The library is not installed.
    """
    configs = [argument for argument in arguments if argument.endswith('.py')]
    library = next(filter(find_spec, LIBRARIES), LIBRARIES[0])
    if configs:
        library = read_model_config(Path(configs[0])).get('default_scope')
        if library not in LIBRARIES:
            raise ValueError(
                f'{configs[0]} has default_scope = {library!r}; it has to be one of '
                f'{", ".join(LIBRARIES)}'
            )
    package = find_spec(library)
    if package is None or package.origin is None:
        raise ImportError(f'{library} is not installed: see docs/support.md for what installs it')
    return Path(package.origin).parent / '.mim' / 'tools' / f'{name}.py'

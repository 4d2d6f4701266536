"""Install what OpenMMLab's libraries need at import, remove it, and say what is active."""

import inspect
import os
import sys
import sysconfig
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.engine import openmmlab_imports
from revcol_backbone.mmcv_ops import finder

MODULE_NAME = '_revcol_backbone_mmcv_ops'
# What is copied into site-packages, by the name of the copy.
COPIES = {MODULE_NAME: finder, '_revcol_backbone_openmmlab_imports': openmmlab_imports}
PATH_FILE = 'revcol_backbone_mmcv_ops.pth'
# Python runs these lines at every start of the interpreter.
PATH_LINES = ''.join(f'import {name}; {name}.enable()\n' for name in COPIES)


class InstallationError(OSError):
    """The stand-in cannot be written to or removed from a folder."""


@dataclass(frozen=True)
class Status:
    """Where ``mmcv._ext`` comes from.

    Attributes:
        state: 'mmcv missing', 'compiled mmcv', 'stand-in installed' (every process of this
            interpreter), 'stand-in in this process only', or 'no operators'.
        mmcv: Folder of the mmcv package.
        compiled: File of mmcv's own compiled operators.
        installed: Folder that the stand-in is installed in.
        operators: Names that the stand-in provides.
    """

    state: str
    mmcv: str | None
    compiled: str | None
    installed: str | None
    operators: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f'State: {self.state}', f'mmcv: {self.mmcv or "not installed"}']
        lines.append(f'Compiled operators: {self.compiled or "none"}')
        lines.append(f'Stand-in: {self._describe_stand_in()}')
        lines.append(f'Operators it provides: {", ".join(self.operators)}')
        return '\n'.join(lines)

    def _describe_stand_in(self) -> str:
        where = f'installed in {self.installed}' if self.installed else 'not installed'
        if self.compiled:
            return f'{where}, not used: compiled operators always win'
        if self.state == 'stand-in in this process only':
            return f'{where}, active only in processes that import revcol_backbone'
        return where


def status() -> Status:
    """Say where ``mmcv._ext`` comes from, without importing mmcv."""
    from revcol_backbone.mmcv_ops.extension import OPERATORS

    mmcv, compiled, installed = _mmcv_folder(), find_compiled(), _installed_folder()
    if mmcv is None:
        state = 'mmcv missing'
    elif compiled:
        state = 'compiled mmcv'
    elif not finder.is_enabled():
        state = 'no operators'
    else:
        state = 'stand-in installed' if installed else 'stand-in in this process only'
    folder = str(installed) if installed else None
    return Status(state, mmcv, compiled, folder, tuple(sorted(OPERATORS)))


def install(directory: str | os.PathLike | None = None) -> str:
    """Make ``import mmcv.ops`` work in every process of this interpreter.

    Writes a path file, which Python reads at start, and copies of two modules: the finder of
    ``mmcv._ext``, which a compiled mmcv overrides, and the corrections of
    :mod:`revcol_backbone.engine.openmmlab_imports`.

    Args:
        directory: A folder that Python reads path files from. Defaults to the running
            interpreter's site-packages.

    Returns:
        What was done, in a sentence.

    Raises:
        InstallationError: If the folder cannot be written to.
    """
    directory = _site_packages(directory)
    try:
        # The modules go first: a path file without them would complain at every start.
        for name, module in COPIES.items():
            _write(directory / f'{name}.py', inspect.getsource(module))
        _write(directory / PATH_FILE, PATH_LINES)
    except OSError as error:
        raise InstallationError(
            f'Cannot write to {directory} ({error.strerror}): use a virtual environment, or pass '
            '--directory with a folder of yours that Python reads at start, such as the one that '
            "'python -m site --user-site' prints."
        ) from error
    return f'Installed the stand-in for mmcv._ext in {directory}.{_note_on_mmcv()}'


def uninstall(directory: str | os.PathLike | None = None) -> str:
    """Remove exactly what :func:`install` wrote.

    Args:
        directory: The folder given to :func:`install`. Defaults to the running interpreter's
            site-packages.

    Returns:
        What was done, in a sentence.

    Raises:
        InstallationError: If the folder cannot be written to.
    """
    directory = _site_packages(directory)
    written = [directory / PATH_FILE]
    for name in COPIES:
        written += [directory / f'{name}.py', *(directory / '__pycache__').glob(f'{name}.*.pyc')]
    present = [path for path in written if path.exists()]
    try:
        for path in present:
            path.unlink()
    except OSError as error:
        raise InstallationError(
            f'Cannot remove {path} ({error.strerror}): remove it as the user who installed it.'
        ) from error
    if not present:
        return f'The stand-in for mmcv._ext is not installed in {directory}; nothing removed.'
    return f'Removed the stand-in for mmcv._ext from {directory}.'


def find_compiled() -> str | None:
    """The file of mmcv's own compiled operators, found without importing them."""
    loaded = sys.modules.get(finder.EXTENSION)
    if loaded is not None and not finder.is_stand_in(loaded):
        return getattr(loaded, '__file__', None) or finder.EXTENSION
    package = _mmcv_spec()
    if package is None or package.submodule_search_locations is None:
        return None
    spec = finder.search_others(package.submodule_search_locations)
    return spec and (spec.origin or finder.EXTENSION)


def _note_on_mmcv() -> str:
    compiled = find_compiled()
    if compiled:
        return f' mmcv has compiled operators ({compiled}): these are used.'
    return '' if _mmcv_folder() else ' mmcv is not installed yet: it takes effect with mmcv-lite.'


def _mmcv_spec() -> ModuleSpec | None:
    package = finder.EXTENSION.partition('.')[0]
    loaded = sys.modules.get(package)
    return find_spec(package) if loaded is None else getattr(loaded, '__spec__', None)


def _mmcv_folder() -> str | None:
    spec = _mmcv_spec()
    if spec is None:
        return None
    return os.path.dirname(spec.origin) if spec.origin else spec.name


def _installed_folder() -> Path | None:
    spec = find_spec(MODULE_NAME)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return folder if folder and (folder / PATH_FILE).is_file() else None


def _site_packages(directory: str | os.PathLike | None) -> Path:
    return Path(sysconfig.get_path('purelib') if directory is None else directory)


def _write(path: Path, text: str) -> None:
    def write(partial: Path) -> None:
        partial.write_text(text, encoding='utf-8')
        partial.chmod(0o644)  # other users run this interpreter, too

    path.parent.stat()  # a folder that does not exist is an error here, and not made
    write_atomically(path, write)

"""Corrections to OpenMMLab's libraries, applied when the library in question is imported.

- openmim creates ``~/.cache/mim`` at import and fails if another process creates it at the same
  moment (``mim/utils/default.py``). The folder is created here first, without that race.
- mmengine opens ``_base_ = 'package::...'`` for the packages of its own table only
  (``mmengine/config/utils.py``). Here ``'revcol_backbone::det_configs/revcol_t_cascade.py'``
  opens a config that this package has installed, and ``'mmdet::...'`` and ``'mmseg::...'`` those
  of the maintained forks, whose distributions have other names.

The standard library is all this file needs, and only ``os`` and ``sys`` at import:
``python -m revcol_backbone.mmcv_ops install`` copies it into site-packages, where it runs at every
start of the interpreter.
"""

import os
import sys

PACKAGE = 'revcol_backbone'
CONFIG_MODULE = 'mmengine.config.config'
# Module, distribution as mmengine knows it, and distribution of the maintained fork.
FORKS = (
    ('mmdet', 'mmdet', 'onedl-mmdetection'),
    ('mmseg', 'mmsegmentation', 'onedl-mmsegmentation'),
)


def enable() -> None:
    """Correct what this process has yet to import; a second call changes nothing."""
    if not is_enabled():
        sys.meta_path.insert(0, ImportObserver())
    if CONFIG_MODULE in sys.modules:
        correct_config_module(sys.modules[CONFIG_MODULE])


def is_enabled() -> bool:
    """Say whether an observer, this module's or the installed copy's, is in this process."""
    # By name, not by class: the installed copy is another module with a class of its own.
    return any(getattr(finder, 'observer', None) == PACKAGE for finder in sys.meta_path)


class ImportObserver:
    """Meta-path finder that finds nothing itself and corrects a library as it is imported."""

    observer = PACKAGE

    def find_spec(self, fullname, path=None, target=None):
        """Return None, except for the module whose loading is to be followed by a correction."""
        if fullname == 'mim':
            create_mim_cache()
        if fullname != CONFIG_MODULE:
            return None
        spec = self._find_with_others(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _CorrectedLoader(spec.loader)
        return spec

    def _find_with_others(self, fullname, path, target):
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, 'find_spec'):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                return spec
        return None


class _CorrectedLoader:
    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        module.__spec__.loader = module.__loader__ = self._loader
        correct_config_module(module)


def create_mim_cache() -> None:
    """Create openmim's cache folder; where that is impossible, openmim itself says so."""
    from contextlib import suppress

    with suppress(OSError):
        os.makedirs(os.path.join(os.path.expanduser('~'), '.cache', 'mim'), exist_ok=True)


def correct_config_module(module) -> None:
    """Let ``mmengine.config.Config`` open more packages; repeated, it changes nothing.

    Args:
        module: ``mmengine.config.config``, as loaded.
    """
    resolve = getattr(module.Config, '_get_cfg_path', None)
    if resolve is None or getattr(resolve, 'observer', None) == PACKAGE:
        return
    sys.modules['mmengine.config.utils'].MODULE2PACKAGE.update(find_forks())

    def resolve_ours_too(cfg_path, filename):
        package, separator, name = cfg_path.partition('::')
        if not separator or package != PACKAGE:
            return resolve(cfg_path, filename)
        # No scope of their own: what these configs name is registered in mmdet, mmseg and at
        # mmengine's root.
        return find_config(name), None

    vars(resolve_ours_too)['observer'] = PACKAGE
    module.Config._get_cfg_path = staticmethod(resolve_ours_too)


def find_forks() -> dict[str, str]:
    """Return the distribution's name of each module that comes from a maintained fork."""
    return {
        module: fork
        for module, original, fork in FORKS
        if not is_installed(original) and is_installed(fork)
    }


def is_installed(distribution: str) -> bool:
    """Say whether a distribution of this name is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def find_config(name: str) -> str:
    """Find an installed config of this package.

    Args:
        name: Its path within the package's configs, such as ``det_configs/revcol_t_cascade.py``.

    Returns:
        Its absolute path.

    Raises:
        FileNotFoundError: If the package or the config is not there.
    """
    from importlib.util import find_spec

    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise FileNotFoundError(f'{PACKAGE}::{name}: the package {PACKAGE} is not installed')
    folder = os.path.join(os.path.dirname(package.origin), '.mim')
    path = os.path.join(folder, *name.split('/'))
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'{PACKAGE}::{name}: there is no {path}; names are those of the folders det_configs '
            'and seg_configs, as in revcol_backbone::det_configs/revcol_t_cascade.py'
        )
    return path

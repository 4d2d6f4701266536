"""Let Python find ``mmcv._ext`` in this package when no compiled one exists.

The standard library is all this file needs, and only ``sys`` at import: ``install`` copies it into
site-packages, where it runs at every start of the interpreter.
"""

import sys

EXTENSION = 'mmcv._ext'
PROVIDER = 'revcol_backbone.mmcv_ops'


class ExtensionFinder:
    """Meta-path finder for ``mmcv._ext`` and nothing else, which always lets another one win."""

    provider = PROVIDER

    def find_spec(self, fullname, path=None, target=None):
        if fullname != EXTENSION or search_others(path) is not None or not provider_exists():
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(fullname, ExtensionLoader(), origin=PROVIDER)


class ExtensionLoader:
    """Fill ``mmcv._ext`` with the operators of ``revcol_backbone.mmcv_ops``."""

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        from revcol_backbone.mmcv_ops.extension import populate

        populate(module)


def enable() -> None:
    """Make ``import mmcv.ops`` work in this process; a second call changes nothing."""
    if not is_enabled():
        sys.meta_path.append(ExtensionFinder())


def disable() -> None:
    """Undo :func:`enable` and forget ``mmcv._ext`` if it came from here.

    Modules of ``mmcv.ops`` that were imported meanwhile keep the operators they hold.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_ours(finder)]
    if is_stand_in(sys.modules.get(EXTENSION)):
        del sys.modules[EXTENSION]
        package, _, name = EXTENSION.rpartition('.')
        vars(sys.modules[package]).pop(name, None)


def is_enabled() -> bool:
    """Whether a finder of ours, this one or the installed copy, is in this process."""
    return any(_is_ours(finder) for finder in sys.meta_path)


def is_stand_in(module) -> bool:
    """Whether a loaded module is ``mmcv._ext`` as filled by this package."""
    return getattr(getattr(module, '__spec__', None), 'origin', None) == PROVIDER


def search_others(path):
    """The module spec of an ``mmcv._ext`` that is not ours, or None.

    Args:
        path: Where mmcv's modules lie (``mmcv.__path__``).
    """
    for finder in sys.meta_path:
        if _is_ours(finder) or not hasattr(finder, 'find_spec'):
            continue
        spec = finder.find_spec(EXTENSION, path, None)
        if spec is not None:
            return spec
    return None


def provider_exists() -> bool:
    """Whether this package can still be imported: the installed copy may outlive it."""
    package = PROVIDER.partition('.')[0]
    if package in sys.modules:
        return True
    from importlib.util import find_spec

    spec = find_spec(package)
    # A folder left behind without an __init__.py is found too, but has no origin.
    return spec is not None and spec.origin is not None


def _is_ours(finder) -> bool:
    # By name, not by class: the installed copy is another module with a class of its own.
    return getattr(finder, 'provider', None) == PROVIDER

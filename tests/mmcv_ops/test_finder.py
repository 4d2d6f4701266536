import importlib
import sys
from pathlib import Path

import pytest

from revcol_backbone.mmcv_ops import disable, enable, finder, install, installation, status


@pytest.fixture(autouse=True)
def restored_imports(monkeypatch):
    """Lets a test change the import system, and mmcv be imported anew."""
    monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmcv']:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package named mmcv without compiled operators, in front of the real one."""
    folder = tmp_path / 'mmcv'
    folder.mkdir()
    (folder / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def hide_installed(monkeypatch):
    """Takes an installation in this interpreter out of sight."""
    monkeypatch.delitem(sys.modules, installation.MODULE_NAME, raising=False)
    hidden = [path for path in sys.path if not Path(path, installation.PATH_FILE).exists()]
    monkeypatch.setattr(sys, 'path', hidden)


def ours():
    return [entry for entry in sys.meta_path if getattr(entry, 'provider', None)]


def test_enabling_twice_adds_one_finder_at_the_end():
    disable()
    enable()
    enable()
    assert ours() == [sys.meta_path[-1]]


def test_disabling_removes_the_finder_and_the_module(package):
    enable()
    extension = importlib.import_module('mmcv._ext')
    assert finder.is_stand_in(extension)
    disable()
    assert ours() == []
    with pytest.raises(ModuleNotFoundError, match='mmcv._ext'):
        importlib.import_module('mmcv._ext')
    assert not hasattr(sys.modules['mmcv'], '_ext')
    disable()


def test_a_compiled_extension_wins_even_if_its_finder_comes_later(package):
    (package / '_ext.py').write_text('compiled = True')
    enable()
    sys.meta_path.insert(0, sys.meta_path.pop())
    assert importlib.import_module('mmcv._ext').compiled
    disable()
    assert sys.modules['mmcv._ext'].compiled


def test_only_the_extension_is_answered_for(package):
    enable()
    for name in ('mmcv._other', 'mmcv.ops', '_ext', 'other._ext'):
        assert sys.meta_path[-1].find_spec(name, [str(package)]) is None


def test_status_names_the_state(package, tmp_path, monkeypatch):
    hide_installed(monkeypatch)
    disable()
    assert status().state == 'no operators'
    enable()
    assert status().state == 'stand-in in this process only'
    assert 'only in processes that import revcol_backbone' in str(status())
    assert status().mmcv == str(package)
    install(tmp_path)
    importlib.invalidate_caches()
    assert status().state == 'stand-in installed'
    assert status().installed == str(tmp_path)
    (package / '_ext.py').touch()
    importlib.invalidate_caches()
    assert status().state == 'compiled mmcv'
    assert status().compiled == str(package / '_ext.py')
    assert 'not used' in str(status())
    monkeypatch.setitem(sys.modules, 'mmcv', None)
    assert status().state == 'mmcv missing'


def test_status_lists_the_operators():
    assert {'nms', 'softnms', 'roi_align_forward'} <= set(status().operators)
    assert 'roi_align_forward' in str(status())


def test_status_imports_nothing_of_mmcv(package):
    enable()
    status()
    assert 'mmcv' not in sys.modules

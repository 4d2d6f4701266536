"""No file that a user opens can run code: the project's own code has no call that could."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.configs import ROOT

FOLDERS = ('revcol_backbone', 'tools', 'base_configs', 'det_configs', 'seg_configs', 'cls_configs')
FORBIDDEN = {
    'eval',
    'exec',
    'compile',
    'os.popen',
    'os.system',
    'pickle.load',
    'pickle.loads',
    'pickle.Unpickler',
    'dill.load',
    'joblib.load',
    'marshal.load',
    'marshal.loads',
    'shelve.open',
    'yaml.load',
    'yaml.unsafe_load',
    'torch.hub.load',
}
SAFE_ONLY_WITH = {
    'torch.load': ('weights_only', True),
    'np.load': ('allow_pickle', False),
    'numpy.load': ('allow_pickle', False),
}


def unsafe_calls(source: str) -> list[str]:
    """The forbidden calls of a module, as ``name:line``."""
    return [f'{name}:{node.lineno}' for node, name in _calls(source) if not _is_safe(node, name)]


def _calls(source: str) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def _is_safe(node: ast.Call, name: str) -> bool:
    arguments = {keyword.arg: keyword.value for keyword in node.keywords}
    shell = arguments.get('shell')
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        return False
    if name in SAFE_ONLY_WITH:
        key, wanted = SAFE_ONLY_WITH[name]
        value = arguments.get(key)
        # np.load refuses pickles unless told otherwise.
        return (value is None and key == 'allow_pickle') or (
            isinstance(value, ast.Constant) and value.value is wanted
        )
    return name not in FORBIDDEN


@pytest.mark.parametrize(
    'source',
    [
        'eval(text)',
        'pickle.loads(data)',
        'torch.load(path)',
        'torch.load(path, weights_only=False)',
        'torch.load(path, weights_only=flag)',
        'np.load(path, allow_pickle=True)',
        'subprocess.run(text, shell=True)',
        'def f():\n    return [os.system(x) for x in y]',
    ],
)
def test_an_unsafe_call_is_found(source):
    assert len(unsafe_calls(source)) == 1


@pytest.mark.parametrize(
    'source', ['torch.load(path, weights_only=True)', 'np.load(path)', 're.compile(text)']
)
def test_a_safe_call_is_not(source):
    assert unsafe_calls(source) == []


@pytest.mark.parametrize('folder', FOLDERS)
def test_the_project_has_no_unsafe_call(folder):
    modules = sorted((ROOT / folder).rglob('*.py'))
    assert modules
    found = {
        str(path.relative_to(ROOT)): calls
        for path in modules
        if (calls := unsafe_calls(Path(path).read_text()))
    }
    assert found == {}

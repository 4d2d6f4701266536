"""In virtual environments of their own, whose interpreters start afresh."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from revcol_backbone.mmcv_ops import InstallationError, finder, install, uninstall
from revcol_backbone.mmcv_ops.__main__ import main

ROOT = Path(__file__).parents[2]
LIBRARIES = Path(torch.__file__).parents[1]
FILES = [
    '_revcol_backbone_mmcv_ops.py',
    '_revcol_backbone_openmmlab_imports.py',
    'revcol_backbone_mmcv_ops.pth',
]


@pytest.fixture
def environment(tmp_path):
    """A new virtual environment with site-packages, and a run(code, paths) inside it."""
    folder = tmp_path / 'environment'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(folder)], check=True)
    python = folder / ('Scripts' if os.name == 'nt' else 'bin') / 'python'

    def run(*arguments, paths=(ROOT, LIBRARIES)):
        settings = {'PYTHONPATH': os.pathsep.join(map(str, paths)), 'OMP_NUM_THREADS': '1'}
        return subprocess.run(
            [python, *arguments],
            capture_output=True,
            text=True,
            env=os.environ | settings,
            cwd=tmp_path,
        )

    shown = run('-c', "import sysconfig; print(sysconfig.get_path('purelib'))")
    return SimpleNamespace(run=run, site_packages=Path(shown.stdout.strip()))


@pytest.fixture
def bare_mmcv(tmp_path):
    """A folder with a package named mmcv and no operators."""
    (tmp_path / 'bare' / 'mmcv').mkdir(parents=True)
    (tmp_path / 'bare' / 'mmcv' / '__init__.py').touch()
    return tmp_path / 'bare'


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != '__pycache__')


@pytest.mark.slow
def test_installed_operators_reach_every_process_and_leave_with_uninstall(environment):
    before = names(environment.site_packages)
    installed = environment.run('-m', 'revcol_backbone.mmcv_ops', 'install')
    assert installed.returncode == 0, installed.stderr
    assert str(environment.site_packages) in installed.stdout
    assert names(environment.site_packages) == sorted(before + FILES)

    # What mim test, DetInferencer and a bare import do first, without naming this package.
    imported = environment.run(
        '-c',
        'import mmdet.models, mmcv.ops, torch\n'
        'from mmdet.apis import DetInferencer\n'
        'print(mmcv.ops.nms(torch.ones(2, 4), torch.ones(2), 0.5)[1].tolist())\n'
        'from revcol_backbone.mmcv_ops import enable, status\n'
        'enable()\n'
        'import sys\n'
        "print(sum(hasattr(finder, 'provider') for finder in sys.meta_path), 'finder')\n"
        'print(status())\n',
    )
    assert imported.returncode == 0, imported.stderr
    assert '[0, 1]\n1 finder\nState: stand-in installed\n' in imported.stdout

    assert main(['uninstall', '--directory', str(environment.site_packages)]) == 0
    assert names(environment.site_packages) == before
    assert not list(environment.site_packages.glob('**/*revcol*'))


def test_the_interpreter_starts_without_importing_anything_large(environment):
    install(environment.site_packages)
    started = environment.run(
        '-c', "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = set(started.stdout.split())
    assert '_revcol_backbone_mmcv_ops' in loaded
    assert loaded.isdisjoint({'revcol_backbone', 'torch', 'torchvision', 'mmcv', 'importlib.util'})


def test_what_stays_behind_without_this_package_is_silent_and_harmless(environment, bare_mmcv):
    install(environment.site_packages)
    (bare_mmcv / 'revcol_backbone').mkdir()
    shown = environment.run(
        '-c',
        'import mmcv\n'
        'try:\n'
        '    import mmcv._ext\n'
        'except ModuleNotFoundError as error:\n'
        '    print(error)\n',
        paths=[bare_mmcv],
    )
    assert (shown.returncode, shown.stderr) == (0, '')
    assert shown.stdout == "No module named 'mmcv._ext'\n"


def test_a_compiled_mmcv_wins_over_installed_operators(environment, bare_mmcv):
    install(environment.site_packages)
    (bare_mmcv / 'mmcv' / '_ext.py').write_text('print("compiled")')
    shown = environment.run('-c', 'import mmcv._ext', paths=[bare_mmcv, ROOT])
    assert (shown.stdout, shown.stderr) == ('compiled\n', '')


def test_installing_beside_a_compiled_mmcv_says_that_its_operators_are_used(
    bare_mmcv, tmp_path, monkeypatch
):
    (bare_mmcv / 'mmcv' / '_ext.py').touch()
    monkeypatch.syspath_prepend(bare_mmcv)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmcv']:
        monkeypatch.delitem(sys.modules, name)
    message = install(tmp_path)
    assert f'{bare_mmcv / "mmcv" / "_ext.py"}): these are used' in message


def test_installing_twice_renews_the_files(tmp_path):
    install(tmp_path)
    (tmp_path / FILES[0]).write_text('stale')
    install(tmp_path)
    assert (tmp_path / FILES[0]).read_text() == Path(finder.__file__).read_text()
    assert names(tmp_path) == sorted(FILES)


def test_uninstalling_leaves_other_files_alone(tmp_path):
    (tmp_path / 'other.pth').touch()
    assert 'nothing removed' in uninstall(tmp_path)
    install(tmp_path)
    assert str(tmp_path) in uninstall(tmp_path)
    assert names(tmp_path) == ['other.pth']


def test_a_folder_that_cannot_be_written_to_is_told_in_one_sentence(tmp_path):
    blocked = tmp_path / 'file'
    blocked.touch()
    with pytest.raises(InstallationError, match='Cannot write to .*file.*--directory') as raised:
        install(blocked)
    assert '\n' not in str(raised.value)


def test_the_command_reports_and_fails_with_a_sentence_and_no_traceback(tmp_path, capsys):
    assert main(['install', '--directory', str(tmp_path)]) == 0
    assert main(['status']) == 0
    assert main(['uninstall', '--directory', str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[:2]] == ['Installed', 'State:']
    assert printed.splitlines()[-1].startswith('Removed ')
    assert names(tmp_path) == []
    assert main(['install', '--directory', str(tmp_path / 'missing')]) == 1
    assert capsys.readouterr().err.startswith('error: Cannot write to ')

"""The command ``revcol``, through its entry point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import revcol_backbone
from revcol_backbone.model_zoo import find_config
from revcol_cli.commands import main, revcol
from tests.shapes_data import make_shape_maps, make_shapes

ROOT = Path(__file__).parents[2]


def output_of(capsys: pytest.CaptureFixture, *arguments: str, status: int = 0) -> str:
    assert main(list(arguments)) == status
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['revcol'])


def test_help_fits_a_screen_and_names_every_command(capsys):
    text = output_of(capsys, '--help')
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 80
    # An ellipsis at the end of a line is a description that was cut off.
    assert not any(line.endswith('...') for line in text.splitlines()[1:])
    assert set(revcol.commands) == {
        *('train', 'test', 'predict', 'export', 'demo'),
        *('check-data', 'zoo', 'benchmark', 'doctor', 'config'),
    }
    assert all(f'\n  {name}' in text for name in revcol.commands)


@pytest.mark.parametrize(
    'arguments', [['--help'], ['--version'], ['config'], ['config', 'revcol_t_cascade']]
)
def test_what_needs_no_model_loads_no_torch(arguments):
    code = (
        'import sys; from revcol_cli import main; status = main(sys.argv[1:]);'
        "sys.exit(status or ('torch' in sys.modules or 'mmengine' in sys.modules) * 3)"
    )
    command = [sys.executable, '-c', code, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout


def test_the_version_is_that_of_the_package(capsys):
    assert output_of(capsys, '--version').strip().endswith(revcol_backbone.__version__)


def test_config_prints_the_path_of_an_installed_config(capsys):
    path = Path(output_of(capsys, 'config', 'revcol_t_cascade').strip())
    assert path.is_absolute()
    assert path.read_text() == (ROOT / 'det_configs' / 'revcol_t_cascade.py').read_text()
    assert 'revcol_t_upernet' in output_of(capsys, 'config').split()


def test_a_name_that_no_config_has_is_answered_with_similar_ones(capsys):
    assert main(['config', 'revcol_t_cascad']) == 1
    assert 'similar names: revcol_t_cascade' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'position', 'expected'),
    [
        ('revcol do', '1', 'plain,doctor'),
        ('revcol config revcol_t_c', '2', 'plain,revcol_t_cascade'),
    ],
)
def test_completion_offers_commands_and_configs(monkeypatch, capsys, words, position, expected):
    monkeypatch.setenv('_REVCOL_COMPLETE', 'bash_complete')
    monkeypatch.setenv('COMP_WORDS', words)
    monkeypatch.setenv('COMP_CWORD', position)
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 0
    assert expected in capsys.readouterr().out.splitlines()


def test_zoo_lists_published_figures(capsys):
    lines = output_of(capsys, 'zoo').splitlines()
    (row,) = [line for line in lines if line.startswith('revcol_t_cascade ')]
    assert row.split()[1:] == ['COCO', '50.8', 'box', 'AP,', '44.0', 'mask', 'AP', 'published']


@pytest.mark.parametrize(
    ('command', 'expected'),
    [
        (['predict', 'revcol_t_cascade', '--help'], '--score'),
        (['predict', 'revcol_t_upernet', '--help'], '--tile'),
        (['export', '--help'], '--opset'),
        (['demo', '--help'], '--port'),
        (['check-data', '--help'], '--sample'),
        (['benchmark', 'memory', '--help'], 'usage: revcol benchmark memory'),
    ],
)
def test_a_command_passes_its_arguments_to_its_tool(capsys, command, expected):
    assert expected in output_of(capsys, *command)


def test_benchmark_without_a_name_lists_them_all(capsys):
    assert {'memory,', 'speed,'} < set(output_of(capsys, 'benchmark').split())
    assert main(['benchmark', 'nonsense']) == 1
    assert 'there is no benchmark' in capsys.readouterr().err


def test_check_data_takes_sets_of_ones_own(tmp_path, capsys):
    boxes = make_shapes(tmp_path / 'boxes', masks=False)
    maps = make_shape_maps(tmp_path / 'maps')
    folders = [str(maps / folder / 'train') for folder in ('images', 'annotations')]
    file_and_folder = [str(boxes / 'train.json'), str(boxes / 'train')]
    for arguments in (['coco-format', *file_and_folder], ['label-maps', *folders]):
        assert 'complete' in output_of(capsys, 'check-data', *arguments)
    (boxes / 'train' / '0.jpg').unlink()
    (maps / 'annotations' / 'train' / '1.png').unlink()
    for arguments in (['coco-format', *file_and_folder], ['label-maps', *folders]):
        assert main(['check-data', *arguments]) == 1
        output = capsys.readouterr()
        assert 'problem 1: ' in output.out
        assert output.err.startswith('error: ')


def test_wrong_use_ends_with_status_2_and_a_tools_error_with_its_own(capsys):
    assert main(['no-such-command']) == 2
    assert "No such command 'no-such-command'" in capsys.readouterr().err
    assert main(['check-data', 'coco', '/nowhere']) == 1
    assert capsys.readouterr().err.startswith('error: ')


@pytest.mark.parametrize(
    ('name', 'library', 'given', 'gpus'),
    [
        ('revcol_t_cascade', 'mmdet', [], '0'),
        ('revcol_t_upernet', 'mmseg', ['--gpus', '8', '--launcher', 'pytorch'], '8'),
    ],
)
def test_train_hands_the_config_to_mim_with_its_library(monkeypatch, name, library, given, gpus):
    commands = []

    def record(command, check):
        commands.append(command)
        return type('Result', (), dict(returncode=7))

    monkeypatch.setattr('subprocess.run', record)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    assert main(['train', name, *given]) == 7
    ((python, *command),) = commands
    assert python == sys.executable
    assert command[:5] == ['-m', 'mim', 'train', library, str(find_config(name))]
    assert command[command.index('--gpus') + 1] == gpus
    assert command.count('--gpus') == 1


def test_doctor_finds_nothing_wrong_in_the_environment_of_the_tests(capsys):
    text = output_of(capsys, 'doctor')
    assert 'refuses a file that would run a command' in text
    assert 'stand-in installed' in text or 'compiled mmcv' in text
    assert '->' not in text

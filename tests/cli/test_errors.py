"""Every command ends with an exit status, and an error is one line on standard error."""

import subprocess
import sys

import pytest

from revcol_backbone.cli import report_errors


def end_with(error):
    @report_errors
    def main(arguments=None):
        raise error

    return main([])


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (
            ValueError('a.py has no model;\n  give one.'),
            'a.py has no model; give one.',
        ),
        (ImportError('install gradio'), 'install gradio'),
        (FileNotFoundError(2, 'No such file or directory', 'a.pth'), 'a.pth: No such file or dir'),
        (OSError(28, 'No space left on device'), 'error: No space left on device'),
        (ValueError(), 'ValueError'),
    ],
)
def test_an_expected_error_is_one_line_and_status_1(error, line, capsys):
    assert end_with(error) == 1
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('error: ')
    assert line in err
    assert err.count('\n') == 1


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        end_with(ZeroDivisionError())


def test_ctrl_c_ends_with_the_status_of_shells(capsys):
    assert end_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == 'interrupted\n'


def test_the_status_of_a_command_without_errors_is_its_own():
    assert report_errors(lambda arguments: None)([]) == 0
    assert report_errors(lambda arguments: 3)([]) == 3


def test_names_that_are_not_text_and_closed_pipes_end_without_a_traceback():
    code = (
        'import sys\nfrom revcol_backbone.cli import report_errors\n'
        '@report_errors\ndef main(arguments=None):\n'
        "    print('\\udcff.jpg', flush=True)\n"
        "    for _ in range(100_000): print('a line', flush=True)\n"
        'sys.exit(main())'
    )
    command = [sys.executable, '-c', code]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding='utf-8'
    )
    assert process.stdout.readline() == '\\udcff.jpg\n'
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait() == 1

"""The command ``revcol``: what the package can do, under one name.

Each command runs a tool of ``tools/``, which is installed with the package, or openmim.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click
import torch

from revcol_backbone.cli.doctor import diagnose
from revcol_backbone.cli.errors import report_errors
from revcol_backbone.engine.building import read_model_config
from revcol_backbone.engine.openmmlab_imports import find_forks
from revcol_backbone.model_zoo import INSTALLED, find_config, read_model_index
from revcol_backbone.version import __version__

# A tool reads its own arguments, --help among them.
PASS_ON = dict(
    context_settings=dict(ignore_unknown_options=True, allow_interspersed_args=False),
    add_help_option=False,
    options_metavar='',
)
arguments_of_the_tool = click.argument('arguments', nargs=-1, type=click.UNPROCESSED)


@report_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``None`` means that of this process."""
    # openmim and mmengine import it, as the versions that are pinned here must.
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated', category=UserWarning)
    try:
        return revcol.main(arguments, prog_name='revcol', standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code


@click.group(context_settings=dict(help_option_names=['-h', '--help'], max_content_width=100))
@click.version_option(__version__, prog_name='revcol')
def revcol() -> None:
    """RevCol for detection and segmentation.

    CONFIG is a file or the name of an installed config, such as revcol_t_cascade.
    """


@revcol.command(**PASS_ON)
@arguments_of_the_tool
def train(arguments: tuple[str, ...]) -> int:
    """Train: CONFIG [--gpus N] [options of `mim train`]."""
    return run_mim('train', arguments)


@revcol.command(**PASS_ON)
@arguments_of_the_tool
def test(arguments: tuple[str, ...]) -> int:
    """Test: CONFIG --checkpoint FILE [options of `mim test`]."""
    return run_mim('test', arguments)


@revcol.command(**PASS_ON)
@arguments_of_the_tool
def predict(arguments: tuple[str, ...]) -> int:
    """Predict: CONFIG CHECKPOINT INPUT [INPUT ...] --out DIR."""
    arguments = resolve_config(arguments)
    segments = bool(arguments) and scope_of(arguments[0]) == 'mmseg'
    return run_tool('infer_seg' if segments else 'infer_det', 'predict', arguments)


@revcol.command(**PASS_ON)
@arguments_of_the_tool
def export(arguments: tuple[str, ...]) -> int:
    """Export: CONFIG CHECKPOINT --part PART --out FILE."""
    return run_tool('export', 'export', resolve_config(arguments))


@revcol.command(**PASS_ON)
@arguments_of_the_tool
def demo(arguments: tuple[str, ...]) -> int:
    """Open the demo in a browser: CONFIG CHECKPOINT."""
    return run_tool('demo_app', 'demo', resolve_config(arguments))


@revcol.command(name='check-data', **PASS_ON)
@arguments_of_the_tool
def check_data(arguments: tuple[str, ...]) -> int:
    """Check a data set before a long run: NAME ROOT."""
    return run_tool('check_dataset', 'check-data', arguments)


@revcol.command()
def zoo() -> None:
    """List the models with published figures."""
    models = read_model_index(INSTALLED / 'model-index.yml')
    rows = [('name', 'data set', 'published', 'file')]
    rows += [
        (
            model.name,
            model.dataset,
            ', '.join(f'{value} {metric}' for metric, value in model.figures.items()),
            'published' if model.weights else '-',
        )
        for model in models
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo('  '.join(cells).rstrip())


@revcol.command(**PASS_ON)
@arguments_of_the_tool
def benchmark(arguments: tuple[str, ...]) -> int:
    """Measure: NAME [options], or list all names."""
    names = sorted(path.stem for path in (INSTALLED / 'tools' / 'benchmarks').glob('[!_]*.py'))
    if not arguments or arguments[0] not in names:
        text = f'benchmarks: {", ".join(names)}'
        if arguments and arguments[0] not in ('-h', '--help'):
            raise ValueError(f'there is no benchmark {arguments[0]!r}; {text}')
        click.echo(text)
        return 0
    return run_tool(f'benchmarks/{arguments[0]}', f'benchmark {arguments[0]}', arguments[1:])


@revcol.command()
def doctor() -> int:
    """Report versions, devices and problems, with cures."""
    findings = diagnose()
    for finding in findings:
        click.echo(finding)
    return int(any(finding.cure for finding in findings))


@revcol.command()
@click.argument('name', required=False, shell_complete=lambda *_: config_names())
def config(name: str | None) -> None:
    """Print the path of the config NAME, or all names."""
    click.echo(find_config(name) if name else '\n'.join(config_names()))


def run_tool(tool: str, command: str, arguments: tuple[str, ...]) -> int:
    """Run a tool in this process.

    Args:
        tool: Its path within ``tools/``, without ``.py``.
        command: What the tool calls itself in its messages, after ``revcol``.
        arguments: Its command line.

    Returns:
        Its exit status.
    """
    sys.argv = [f'revcol {command}', *arguments]
    run = runpy.run_path(str(INSTALLED / 'tools' / f'{tool}.py'))['main']
    try:
        return run(list(arguments))
    except SystemExit as end:  # argparse's, after --help or wrong arguments
        return end.code if isinstance(end.code, int) else 0


def run_mim(command: str, arguments: tuple[str, ...]) -> int:
    """Run ``mim train`` or ``mim test`` with the library that the config belongs to."""
    if find_spec('mim') is None:
        raise ImportError(
            f"`revcol {command}` needs openmim: run `pip install 'revcol-backbone[mim]'`"
        )
    line = [sys.executable, '-m', 'mim', command]
    if not arguments or arguments[0] in ('-h', '--help'):
        click.echo(f'usage: revcol {command} CONFIG [--gpus N] [options]\n')
        return subprocess.run([*line, '--help'], check=False).returncode
    arguments = resolve_config(arguments)
    if not any(argument.partition('=')[0] in ('--gpus', '-G') for argument in arguments):
        arguments += ('--gpus', str(min(1, torch.cuda.device_count())))
    library = scope_of(arguments[0])
    # Under its module's name mim does not find the fork of mmdet.
    package = find_forks().get(library, library)
    return subprocess.run([*line, package, *arguments], check=False).returncode


def resolve_config(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Replace the name of an installed config, if that comes first, by its path."""
    if not arguments or arguments[0].startswith('-') or Path(arguments[0]).exists():
        return arguments
    return str(find_config(arguments[0])), *arguments[1:]


def scope_of(path: str) -> str:
    """Return the library that a config belongs to: mmdet, mmseg or mmpretrain."""
    if path.startswith('-'):
        return 'mmdet'
    return read_model_config(Path(path)).get('default_scope') or 'mmdet'


def config_names() -> list[str]:
    """Return the names of the installed configs."""
    return sorted(path.stem for path in INSTALLED.glob('*_configs/*.py'))


if __name__ == '__main__':
    sys.exit(main())

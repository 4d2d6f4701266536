"""The command line of ``revcol``: what the package can do, under one name.

Each command runs a tool of ``tools/``, which is installed with the package, or openmim.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

INTERRUPTED = 130  # what shells report for a program that Ctrl-C has ended


class PackageCommand(click.Command):
    """A command that needs the package, and with it torch; its errors are one line."""

    def invoke(self, context: click.Context) -> int:
        """Import the package and run the command; return its exit status."""
        # openmim and mmengine import it, as the versions that are pinned here must.
        warnings.filterwarnings(
            'ignore', message='pkg_resources is deprecated', category=UserWarning
        )
        from revcol_backbone.cli import report_errors

        return report_errors(lambda _: click.Command.invoke(self, context))()


class ToolCommand(PackageCommand):
    """A command that hands its arguments, ``--help`` among them, to a tool."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(
            name,
            context_settings=dict(ignore_unknown_options=True, allow_interspersed_args=False),
            params=[click.Argument(['arguments'], nargs=-1, type=click.UNPROCESSED)],
            add_help_option=False,
            options_metavar='',
            **{key: value for key, value in kwargs.items() if key != 'params'},
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``None`` means that of this process. Returns the exit status."""
    try:
        return revcol.main(arguments, prog_name='revcol', standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED


@click.group(context_settings=dict(help_option_names=['-h', '--help'], max_content_width=100))
@click.version_option(version('revcol-backbone'), prog_name='revcol')
def revcol() -> None:
    """RevCol for detection and segmentation.

    CONFIG is a file or the name of an installed config, such as revcol_t_cascade.
    """


@revcol.command(cls=ToolCommand)
def train(arguments: tuple[str, ...]) -> int:
    """Train: CONFIG [--gpus N] [options of `mim train`]."""
    from revcol_backbone.cli.running import run_mim

    return run_mim('train', arguments)


@revcol.command(cls=ToolCommand)
def test(arguments: tuple[str, ...]) -> int:
    """Test: CONFIG --checkpoint FILE [options of `mim test`]."""
    from revcol_backbone.cli.running import run_mim

    return run_mim('test', arguments)


@revcol.command(cls=ToolCommand)
def predict(arguments: tuple[str, ...]) -> int:
    """Predict: CONFIG CHECKPOINT INPUT [INPUT ...] --out DIR."""
    from revcol_backbone.cli.running import resolve_config, run_tool, scope_of

    arguments = resolve_config(arguments)
    segments = bool(arguments) and scope_of(arguments[0]) == 'mmseg'
    return run_tool('infer_seg' if segments else 'infer_det', 'predict', arguments)


@revcol.command(cls=ToolCommand)
def export(arguments: tuple[str, ...]) -> int:
    """Export: CONFIG CHECKPOINT --part PART --out FILE."""
    from revcol_backbone.cli.running import resolve_config, run_tool

    return run_tool('export', 'export', resolve_config(arguments))


@revcol.command(cls=ToolCommand)
def demo(arguments: tuple[str, ...]) -> int:
    """Open the demo in a browser: CONFIG CHECKPOINT."""
    from revcol_backbone.cli.running import resolve_config, run_tool

    return run_tool('demo_app', 'demo', resolve_config(arguments))


@revcol.command(name='check-data', cls=ToolCommand)
def check_data(arguments: tuple[str, ...]) -> int:
    """Check a data set before a long run: NAME ROOT."""
    from revcol_backbone.cli.running import run_tool

    return run_tool('check_dataset', 'check-data', arguments)


@revcol.command(cls=PackageCommand)
def zoo() -> None:
    """List the models with published figures."""
    from revcol_backbone.model_zoo import INSTALLED, describe_models, read_model_index

    for line in describe_models(read_model_index(INSTALLED / 'model-index.yml')):
        click.echo(line)


@revcol.command(cls=ToolCommand)
def benchmark(arguments: tuple[str, ...]) -> int:
    """Measure: NAME [options], or list all names."""
    from revcol_backbone.cli.running import run_tool

    files = (installed() / 'tools' / 'benchmarks').glob('*.py')
    # The others are parts of these.
    names = sorted(file.stem for file in files if '__main__' in file.read_text(encoding='utf-8'))
    if not arguments or arguments[0] not in names:
        text = f'benchmarks: {", ".join(names)}'
        if arguments and arguments[0] not in ('-h', '--help'):
            raise ValueError(f'there is no benchmark {arguments[0]!r}; {text}')
        click.echo(text)
        return 0
    return run_tool(f'benchmarks/{arguments[0]}', f'benchmark {arguments[0]}', arguments[1:])


@revcol.command(cls=PackageCommand)
def doctor() -> int:
    """Report versions, devices and problems, with cures."""
    from revcol_backbone.cli.doctor import diagnose

    findings = diagnose()
    for finding in findings:
        click.echo(finding)
    return int(any(finding.cure for finding in findings))


@revcol.command()
@click.argument('name', required=False, shell_complete=lambda *_: list(config_paths()))
def config(name: str | None) -> None:
    """Print the path of the config NAME, or all names."""
    paths = config_paths()
    if name is None:
        click.echo('\n'.join(paths))
    elif name.removesuffix('.py') in paths:
        click.echo(paths[name.removesuffix('.py')])
    else:
        from revcol_backbone.model_zoo import find_config

        try:
            find_config(name)  # raises, with names that are similar
        except ValueError as error:
            raise click.ClickException(str(error)) from None


def config_paths() -> dict[str, Path]:
    """Return the absolute path of each installed config by its name."""
    return {path.stem: path for path in sorted(installed().glob('*_configs/*.py'))}


def installed() -> Path:
    """Return the folder of the package's configs and tools, without importing the package."""
    package = find_spec('revcol_backbone')
    if package is None or package.origin is None:
        raise click.ClickException('revcol_backbone is not installed')
    return Path(package.origin).absolute().parent / '.mim'

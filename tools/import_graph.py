"""Print which rooms of the package import which, and fail if the graph breaks a rule.

A room is a folder of ``revcol_backbone``, or a module in its root. The rules: no circle among
modules, no module that nothing imports and nobody runs, no import from a hook, a tool or a test.

    python tools/import_graph.py
    python tools/import_graph.py --modules
"""

from __future__ import annotations

import argparse
import ast
import graphlib
import sys
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from revcol_backbone.cli import report_errors

PACKAGE = 'revcol_backbone'
Graph = dict[str, set[str]]


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the graph; ``None`` means the command line of this process.

    Raises:
        ValueError: The graph breaks a rule.
    """
    args = parse_arguments(arguments)
    graph = read_graph(args.root)
    shown = graph if args.modules else rooms_of(graph)
    for name, imported in sorted(shown.items()):
        print(f'{name} -> {", ".join(sorted(imported)) or "nothing"}')
    problems = find_problems(graph, names_used_outside(args.root))
    for problem in problems:
        print(f'problem: {problem}')
    if problems:
        raise ValueError(f'the imports of {PACKAGE} break {len(problems)} rules')
    print(f'{len(graph)} modules in {len(rooms_of(graph))} rooms, no circle')


def read_graph(root: Path) -> Graph:
    """Read which modules of the package each of its modules imports, at any depth of its code.

    Args:
        root: The folder that holds the package.
    """
    paths = {_name(path, root): path for path in sorted((root / PACKAGE).glob('**/*.py'))}
    modules = {name: path for name, path in paths.items() if not name.startswith(f'{PACKAGE}..mim')}
    return {name: _imports(name, path, modules) - {name} for name, path in modules.items()}


def rooms_of(graph: Graph) -> Graph:
    """Merge the modules of each folder of the package."""
    rooms: Graph = defaultdict(set)
    for name, imported in graph.items():
        rooms[_room(name)] |= {_room(other) for other in imported} - {_room(name)}
    return dict(rooms)


def find_problems(graph: Graph, used_outside: set[str]) -> list[str]:
    """Check the rules.

    Args:
        graph: The modules that each module imports.
        used_outside: Modules that tools, configs, tests or the installed commands name.
    """
    problems = []
    inner = {name: imported - {PACKAGE} for name, imported in graph.items() if name != PACKAGE}
    try:
        tuple(graphlib.TopologicalSorter(inner).static_order())
    except graphlib.CycleError as error:
        problems.append(f'circle: {" -> ".join(reversed(error.args[1]))}')
    imported = set().union(*graph.values()) | used_outside
    packages = {name.rpartition('.')[0] for name in graph} | {PACKAGE}
    for name in sorted(set(graph) - imported - packages):
        if not name.endswith('.__main__'):
            problems.append(f'{name} is imported by nothing')
    # A package may name its hooks, which registers them.
    for name, others in sorted(item for item in inner.items() if item[0] not in packages):
        hooks = sorted(other for other in others if other.endswith('_hook'))
        problems += [f'{name} imports from the hook {hook}' for hook in hooks]
    return problems


def names_used_outside(root: Path) -> set[str]:
    """Return the modules that tools, configs, tests or the command ``revcol`` import."""
    folders = ('tools', 'tests', 'revcol_cli', '*_configs')
    files = [path for folder in folders for path in root.glob(f'{folder}/**/*.py')]
    modules = {_name(path, root) for path in (root / PACKAGE).glob('**/*.py')}
    used: set[str] = set()
    for path in files:
        used |= _imports(_name(path, root), path, modules)
        used |= _texts(path) & modules  # as in custom_imports of a config
    return used


def _imports(name: str, path: Path, modules: Collection[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name, path)
            names = {f'{base}.{alias.name}' for alias in node.names}
            # What is a module of the package is imported itself, not from the package.
            found |= names if names <= set(modules) else names | {base}
    return found & set(modules)


def _texts(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text('utf-8')))
    return {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _absolute(node: ast.ImportFrom, name: str, path: Path) -> str:
    if not node.level:
        return node.module or ''
    package = name if path.stem == '__init__' else name.rpartition('.')[0]
    base = package.split('.')[: len(package.split('.')) - node.level + 1]
    return '.'.join([*base, *([node.module] if node.module else [])])


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def _room(name: str) -> str:
    return '.'.join(name.split('.')[:2])


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--modules', action='store_true', help='show modules instead of rooms')
    parser.add_argument(
        '--root',
        type=Path,
        default=Path(__file__).absolute().parents[1],
        help='the checkout (default: that of this file)',
    )
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

"""``tools/import_graph.py`` on this package and on small ones that break each rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.commands import error_of
from tools.import_graph import find_problems, main, names_used_outside, read_graph


def test_this_package_breaks_no_rule(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert 'revcol_backbone.revcol -> ' in printed
    assert printed.splitlines()[-1].endswith('no circle')


@pytest.mark.parametrize(
    ('files', 'problem'),
    [
        (
            {'a': 'from revcol_backbone.b import f', 'b': 'def f():\n    import revcol_backbone.a'},
            'circle: revcol_backbone.a -> revcol_backbone.b -> revcol_backbone.a',
        ),
        ({'a': ''}, 'revcol_backbone.a is imported by nothing'),
        (
            {'__init__': 'from . import a', 'a': 'from .b_hook import f', 'b_hook': ''},
            'revcol_backbone.a imports from the hook revcol_backbone.b_hook',
        ),
    ],
    ids=['circle within a function', 'loose module', 'import from a hook'],
)
def test_each_broken_rule_is_named(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    (tmp_path / 'revcol_backbone').mkdir()
    for name, text in files.items():
        (tmp_path / 'revcol_backbone' / f'{name}.py').write_text(text)
    problems = find_problems(read_graph(tmp_path), names_used_outside(tmp_path))
    assert [_rotated(found) for found in problems] == [_rotated(problem)]
    assert (
        error_of(main, '--root', tmp_path) == 'error: the imports of revcol_backbone break 1 rules'
    )


def _rotated(problem: str) -> str | set[str]:
    """A circle is the same from wherever it is told."""
    kind, _, modules = problem.partition(': ')
    return set(modules.split(' -> ')) if kind == 'circle' else problem

"""Pytest plugin that turns timm's own test file on the models of this project.

timm's tests list the models they run on by calling ``timm.list_models``; with this plugin the
answer is ours. What is not run is named in ``EXCLUDED``, with the reason.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm

import revcol_backbone.integrations.timm  # noqa: F401 (registers the models)
from revcol_backbone import VARIANTS

MODELS = tuple(f'revcol_{arch}' for arch in VARIANTS)
# The six are one class in other widths, of which RevCol-H alone has 2 billion parameters. What runs
# on the meta device, without memory, runs on all of them, the rest on the smallest.
SMALLEST = 'revcol_tiny'
ON_META = 'test_model_default_cfgs'
EXCLUDED = {
    'test_model_load_pretrained': 'downloads the published file',
    'test_model_features_pretrained': 'downloads the published file',
    'test_model_forward_torchscript': 'compiles the source, which TorchScript cannot: columns are '
    'looked up by name, and the memory-saving mode is an autograd function; tracing works',
    'test_model_forward_fx_torchscript': 'compiles the source as well',
}
PASSING = Path(__file__).with_name('timm_passing.txt')


def list_models(
    filter: str | Sequence[str] = '',
    module: str | Sequence[str] = '',
    pretrained: bool = False,
    exclude_filters: str | Sequence[str] = '',
    **options: object,
) -> list[str]:
    """Stand for ``timm.list_models``: our models, also where timm picks its own by module."""
    if filter:
        return []
    exclude = [exclude_filters] if isinstance(exclude_filters, str) else exclude_filters
    return [name for name in MODELS if not any(fnmatch.fnmatch(name, f) for f in exclude)]


def pytest_configure(config: pytest.Config) -> None:
    """Put the list in place before timm's test file is imported."""
    timm.list_models = list_models
    timm.list_pretrained = lambda *args, **kwargs: []
    config.pluginmanager.register(PassList())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests on our models, but for what is excluded."""
    kept = [item for item in items if _is_kept(item.name)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _is_kept(name: str) -> bool:
    test, _, parameters = name.partition('[')
    is_ours = any(model in parameters for model in MODELS)
    is_small = SMALLEST in parameters or test == ON_META
    return is_ours and is_small and test not in EXCLUDED


class PassList:
    """Compare what passes with the list in the repository, which may not shrink."""

    def __init__(self) -> None:
        self.passed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that passed."""
        if report.when == 'call' and report.passed:
            self.passed.add(report.nodeid.rpartition('::')[2])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail if a test of the list did not pass, or one passed that is not in it."""
        expected = set(PASSING.read_text().split())
        for name in sorted(expected - self.passed):
            print(f'\nno longer passes: {name}', end='')
        for name in sorted(self.passed - expected):
            print(f'\npasses, add it to {PASSING.name}: {name}', end='')
        if expected != self.passed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""Fixtures that several test files share."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from tests.device import DEVICE

THOROUGH_EXAMPLES = 20_000
# `pytest tests/properties --hypothesis-profile thorough` generates twenty times as many cases.
settings.register_profile('thorough', max_examples=THOROUGH_EXAMPLES)


def _restore_scope() -> Iterator[None]:
    """Leave no registry scope, which a runner sets, to what follows."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


_scope_of_test = pytest.fixture(autouse=True)(_restore_scope)
# A fixture of a whole file may run a runner, too.
_scope_of_file = pytest.fixture(autouse=True, scope='module')(_restore_scope)


@pytest.fixture(autouse=True)
def _on_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make tensors and networks of tests marked ``on_device`` on the device of the tests."""
    if not request.node.get_closest_marker('on_device'):
        yield
        return
    torch.set_default_device(DEVICE)
    yield
    torch.set_default_device(None)


@pytest.fixture
def device() -> torch.device:
    """The device of the tests."""
    return DEVICE


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What mmengine's current logger writes during a test; mmengine hides it from ``caplog``."""
    logger = MMLogger.get_current_instance()
    level = logger.level  # of a runner before, perhaps
    logger.setLevel(logging.INFO)
    caplog.set_level(logging.INFO)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say after the closing line what was not tested; each reason names what brings it."""
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    skipped = reporter.stats.get('skipped', []) if reporter else []
    reasons = collections.Counter(report.longrepr[2] for report in skipped)
    for reason, count in reasons.items():
        tests = 'test' if count == 1 else 'tests'
        reporter.write_line(f'not tested ({count} {tests}): {reason.removeprefix("Skipped: ")}')

"""Fixtures that several test files share."""

from __future__ import annotations

import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What mmengine's current logger writes during a test; mmengine hides it from ``caplog``."""
    logger = MMLogger.get_current_instance()
    caplog.set_level(logging.INFO)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)

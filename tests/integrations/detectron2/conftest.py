"""These tests run where Detectron2 is installed: `bash tools/test_detectron2.sh` brings it."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec('detectron2') is None:
    collect_ignore_glob = ['test_*.py']


@pytest.fixture
def small_arch() -> dict:
    """A network of two columns that runs in milliseconds."""
    return {'channels': (8, 16, 24, 32), 'layers': (1, 1, 2, 1), 'columns': 2}

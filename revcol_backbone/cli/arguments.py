"""Types and actions of command-line arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction


class ConfigOptions(DictAction):
    """mmengine's ``DictAction`` for ``KEY=VALUE``, which reports what it cannot parse."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Parse ``values`` and store them as a dictionary."""
        for value in values or ():
            try:
                super().__call__(parser, namespace, [value], option_string)
            # No `=`, brackets that do not match, or too many of them.
            except (AssertionError, RecursionError, ValueError):
                raise argparse.ArgumentError(
                    self, f'{value!r} is not KEY=VALUE; give, for example, model.backbone.arch=tiny'
                ) from None


def positive_int(text: str) -> int:
    """Parse a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed; give a positive integer')
    return int(text)


def port(text: str) -> int:
    """Parse the number of a TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is not a port; give 1 to 65535')
    return int(text)

"""Objects that make a pickle run code when it is read without protection."""

from __future__ import annotations


class Calls:
    """Pickles as a call of ``function`` with ``arguments``, the way a malicious file does."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments

    def __call__(self) -> None:
        """Pickle wants what a file calls to be callable; the result of another call is."""

"""What a check of a data set found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """What was found.

    Args:
        findings: What is there, in words, for each split that could be read.
        problems: What is wrong, each one sentence with its fix.
    """

    findings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def wrong(self, problem: str, fix: str) -> None:
        """Add a problem with its fix."""
        self.problems.append(f'{problem}; {fix}.')

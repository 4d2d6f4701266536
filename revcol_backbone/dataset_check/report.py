"""What a check of a data set found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """The result of a check.

    Attributes:
        findings: What is there, one sentence for each split that could be read.
        problems: What is wrong, one sentence each, with its fix.
    """

    findings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add_problem(self, problem: str, fix: str) -> None:
        """Add a problem with its fix."""
        self.problems.append(f'{problem}; {fix}.')

"""How a failure looks, check by check, so that the one that is known is told from any other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from harness.base.strict import StrictModel
from harness.judge.judgement import Check, Outcome
from harness.model.observation import Checkpoint


class CheckPattern(StrictModel):
    """Checks of one moment, or of any, and of one view; `subject` and `seen` are globs ("irq *")."""

    at: Checkpoint | Literal["any"]
    view: str
    subject: str
    seen: str = "*"

    def matches(self, check: Check) -> bool:
        return (
            self.at in (check.checkpoint, "any")
            and check.view == self.view
            and fnmatchcase(check.subject, self.subject)
            and fnmatchcase(check.seen, self.seen)
        )


def shown(violated: Iterable[CheckPattern], checks: Sequence[Check]) -> bool:
    """Whether each of these checks was violated; one for which nothing was seen is not."""
    return all(any(check.outcome is Outcome.VIOLATED and one.matches(check) for check in checks) for one in violated)


def left_over(patterns: Iterable[CheckPattern], checks: Iterable[Check]) -> list[Check]:
    """What was not met and is not among these patterns."""
    known = tuple(patterns)
    return [
        check for check in checks if check.outcome is not Outcome.MET and not any(one.matches(check) for one in known)
    ]

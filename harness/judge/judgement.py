"""The judge's output: checks with their evidence, and the verdict they add up to. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from harness.model.checkpoint import Checkpoint
from harness.model.raw import RawRef
from harness.model.verdict import Verdict


class Outcome(enum.StrEnum):
    MET = "met"
    VIOLATED = "violated"
    MISSING = "missing"  # nothing was seen where something had to be


@dataclass(frozen=True)
class Check:
    """One expectation held against what was seen."""

    checkpoint: Checkpoint
    view: str  # hardware, table, xen, guest, toolstack
    subject: str  # "MASKALL", "owner", "interrupts"
    expected: str
    seen: str
    outcome: Outcome
    raw: RawRef | None = None


def sentence(one: Check) -> str:
    """A check in one line, for a person."""
    return f"{one.checkpoint} {one.view}: {one.subject}: expected {one.expected}, seen {one.seen}"


@dataclass(frozen=True)
class Hazard:
    """Whether the dangerous moment was really reached; a run without it proves nothing about the fix."""

    promised: bool
    taken: bool
    how: str = ""  # the marker line or register that shows it
    raw: RawRef | None = None


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reason: str
    hazard: Hazard
    checks: tuple[Check, ...] = field(default=())

    @property
    def violations(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome is not Outcome.MET)

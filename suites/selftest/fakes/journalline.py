"""What a journal makes of a change, for whoever stands in for one."""

from __future__ import annotations

from dataclasses import asdict

from harness.lab.lease.entry import FIRST, JournalLine, What, problem
from harness.model.change import Change


def must_be_storable(change: Change) -> None:
    """Fails where a journal would refuse to write it down."""
    words = {name: str(word) for name, word in asdict(change).items()}
    line = JournalLine(1, "2026-01-02T03:04:05Z", "b1", "r1", What.INTENT, words, FIRST)
    assert problem(line) == "", f"{problem(line)}: {change}"

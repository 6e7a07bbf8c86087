"""What dom0 consisted of, as a run for a certificate keeps it beside its results."""

from __future__ import annotations

from pathlib import Path

from harness.base.errors import EvidenceError
from harness.evidence.sealed import read_inside
from harness.lab.safety.facts.stored import MARK, kept
from harness.transport.sections import split

BEFORE, AFTER = FILES = ("environment/before.txt", "environment/after.txt")


def sections(root: Path, name: str) -> dict[str, bytes] | None:
    """Of one of FILES of the run in `root`; None where it was not read, or is not written as it is kept."""
    try:
        content = read_inside(root, name)
    except EvidenceError:
        return None
    found = split(content, MARK)
    found.pop("end", None)
    return found if kept(found) == content else None  # one that is there twice is one thing to us, another to the next

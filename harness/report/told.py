"""What there is to tell of a run, in whatever format. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.base.errors import EvidenceError
from harness.model.observation import RawRef
from harness.report.results import RunResult

Read = Callable[[RawRef], bytes]
"""The bytes of a raw file. EvidenceError when they are not at hand, or are not what they were."""


def nothing_at_hand(raw: RawRef) -> bytes:
    """For results without their raw files."""
    raise EvidenceError(f"{raw.path!r} is not at hand")


@dataclass(frozen=True)
class Told:
    """What there is to tell: the results, what is missing in them (lines of text), and their raw files."""

    run: RunResult
    missing: tuple[str, ...] = ()
    read: Read = nothing_at_hand
    width: int = 80  # columns of the terminal

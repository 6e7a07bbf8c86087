"""What the caller of a command may wish of a lab host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.base.errors import UsageError


@dataclass(frozen=True)
class ClaimOptions:
    """`accepted`: checks of the safety gate whose DENY is accepted, with the reason. `wait` in seconds."""

    reason: str  # what the claim says the host is used for
    accepted: Mapping[str, str] = field(default_factory=dict)
    wait: int = 0
    take_over: str | None = None
    journal: str = ""  # "host" or "controller": whose copy counts, where they do not agree or one is damaged


def accepted(options: Iterable[str]) -> dict[str, str]:
    """From `CHECK=REASON`. UsageError without a reason; whether the check exists is for the gate to say."""
    found: dict[str, str] = {}
    for option in options:
        check, _, reason = option.partition("=")
        if not check.strip() or not reason.strip():
            hint = "as in --accept 'siblings=both are ours'"
            raise UsageError(f"--accept {option!r} is no check with a reason", hint=hint)
        found[check.strip()] = reason.strip()
    return found

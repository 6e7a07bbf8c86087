"""Who has a lab host, as the claim on it says, and when it may be taken from them. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from harness.base.text import inert

STALE = 60.0
"""Seconds without a heartbeat after which a holder counts as dead; one that is only slow beats far more often."""


@dataclass(frozen=True)
class Holder:
    """Who has a host, as the claim on it says."""

    owner: str
    reason: str
    since: str
    token: str

    def as_json(self, **more: object) -> bytes:
        return json.dumps({**asdict(self), **more}).encode() + b"\n"

    @property
    def short(self) -> str:
        """What of it fits into the name of a symbolic link, where a full disk takes no data."""
        some = {"owner": self.owner[:60], "reason": self.reason[:16], "token": self.token}
        plain = json.dumps(some, ensure_ascii=False, separators=(",", ":"))
        return plain.encode("ascii", "replace").decode()


@dataclass(frozen=True)
class Claimed:
    """A claim as it was found. `age`: seconds since its heartbeat; None when it had none in this boot."""

    holder: Holder
    age: float | None
    heartbeat: str  # as it stands there
    digest: str  # SHA-256 of the claim's file
    dirty: bool  # a run's journal is there: it goes on, or has left what nobody has undone

    @property
    def live(self) -> bool:
        return self.age is not None and self.age < STALE

    @property
    def told(self) -> str:
        heart = f"last heard of {self.age:.0f} s ago" if self.age is not None else "never heard of"
        return f"{self.holder.owner} since {self.holder.since} ({self.holder.reason}; {heart})"


def parse(text: str) -> Claimed | None:
    """Accepted format: what `claim.look` has printed: claim, heartbeat, uptime, SHA-256, `journal`, a line each.

    None: nobody has it. A claim that cannot be read is somebody's.
    """
    lines = iter(text.split("\n"))
    claim, heartbeat, uptime, digest, journal = (next(lines, "") for _ in range(5))
    if not claim.strip():
        return None
    try:
        found = json.loads(claim)
        known = {"reason": "unknown", "since": "unknown", **found}
        holder = Holder(*(inert(str(known[field.name]))[:200] for field in fields(Holder)))
    except (ValueError, KeyError, TypeError, RecursionError):
        holder = Holder("somebody whose claim cannot be read", "unknown", "unknown", "")
    return Claimed(holder, _age(heartbeat, uptime), heartbeat, digest, journal == "journal")


def _age(heartbeat: str, uptime: str) -> float | None:
    """None for a heartbeat that says nothing, nan too, or is later than now: of an earlier boot."""
    try:
        age = float(uptime) - float(heartbeat)
    except ValueError:
        return None
    return age if age >= 0 else None


def why_takeable(there: Claimed, owner: str, take_over: str | None) -> str | None:
    """Why a claim that is there may be replaced; None when it may not."""
    if take_over:
        return take_over
    if there.holder.owner == owner and not there.live:
        return "an earlier run of the same owner is dead"
    return None


def how_taken(there: Claimed | None, host: str) -> str:
    """What somebody can do who wants a host that another one has."""
    if there is None or there.live:
        return "--wait SECONDS, or ask them; --take-over REASON"
    if there.dirty:
        return f"it looks dead, and left changes there: maskall restore {host} --take-over REASON"
    return "it looks dead: --take-over REASON"

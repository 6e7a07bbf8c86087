"""What a ring of messages has gained since it was read last. Pure.

`xl dmesg` and `dmesg` print rings: once they are full the oldest lines make room for new ones, so neither a number of
bytes nor one of lines says where to read on. Both are read whole each time and held against what was read before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PROBE = 64  # bytes at the beginning of a reading that are looked for in the last one

XEN_MARK = re.compile(rb"Synced stime skew: max=[0-9]+ns avg=[0-9]+ns samples=[0-9]+ current=-?[0-9]+ns")
"""What Xen prints for debug key t (read_clocks, time.c): it counts its samples, so no two lines are alike."""

DOM0_MARK = re.compile(rb"^(?:<[0-9]+>)?\[ *[0-9]+\.[0-9]{6}\] .{8,}$", re.MULTILINE)
"""A line of the kernel's log with its time in microseconds."""


@dataclass(frozen=True)
class Gain:
    """What is new; `lost` tells that lines between the last reading and this one may be missing, and why."""

    data: bytes
    lost: str = ""


def gained(before: bytes | None, now: bytes, mark: re.Pattern[bytes]) -> Gain:
    """`before` is the last reading, or all readings in one; None: there is none, or the ring began anew since.

    Where nothing has dropped out of the ring, `now` begins with all of `before`. Else the end of `before` must be the
    beginning of `now`, and in it the last line of `before` that can stand in a log only once (`mark`): dumps of debug
    keys are alike, and a ring that has turned by whole dumps looks as if it had not turned.
    """
    if before is None or now.startswith(before):
        return Gain(now[len(before or b"") :])
    overlap = _overlap(before, now)
    marks = list(mark.finditer(before))
    if not overlap:
        return Gain(now, "it has turned over since it was read last")
    last = marks[-1].group() if marks else None
    if last is None or last not in overlap:
        return Gain(now[len(overlap) :], "no line of the last reading that is alone of its kind is left in it")
    return Gain(now[len(overlap) :])


def _overlap(before: bytes, now: bytes) -> bytes:
    """The longest end of `before` that `now` begins with."""
    probe = now[:_PROBE]
    place = before.find(probe) if len(probe) == _PROBE else -1
    while place >= 0:
        if now.startswith(before[place:]):
            return before[place:]
        place = before.find(probe, place + 1)
    return b""


def advice(option: str, now: bytes, more: int) -> str:
    """The size to boot with, for a ring that holds `now` and gets `more` bytes between two readings.

    Four times the most of them, 1 MiB at least.
    """
    wanted = 1 << 20
    while wanted < 4 * max(len(now), more):
        wanted *= 2
    return f"it holds {-(-len(now) // 1024)} KiB; boot with {option}={wanted >> 20}M"

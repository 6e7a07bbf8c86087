"""The lines of a journal: one JSON object each, chained by hashes, so that what is missing or changed shows. Pure."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.base.errors import JournalDamaged

FIRST = "0" * 64
"""What stands for the previous line's hash in the first line."""


class What(enum.StrEnum):
    """What a line says."""

    OPENED = "opened"  # a run begins: who, why
    BASELINE = "baseline"  # how a device, or the host, was before anything was changed
    INTENT = "intent"  # a change is about to be made
    RESTORED = "restored"  # everything is as the baselines say, read back
    QUARANTINED = "quarantined"  # it is not, and could not be made so


@dataclass(frozen=True)
class Entry:
    """One line. `at` is UTC for people; order is by `seq` alone, clocks jump."""

    seq: int
    at: str
    boot_id: str
    run: str
    what: What
    payload: Mapping[str, object]
    prev: str

    @property
    def _body(self) -> dict[str, object]:
        return {
            "seq": self.seq,
            "at": self.at,
            "boot_id": self.boot_id,
            "run": self.run,
            "what": str(self.what),
            "payload": dict(self.payload),
            "prev": self.prev,
        }

    @property
    def hash(self) -> str:
        return hashlib.sha256(_json(self._body)).hexdigest()

    @property
    def line(self) -> bytes:
        """With its newline; the hash stands last, where a shell script finds it."""
        return _json({**self._body, "hash": self.hash}) + b"\n"


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def parse(data: bytes, file: str) -> tuple[Entry, ...]:
    """The lines of one journal.

    Accepted format: what `Entry.line` writes, seq counting from 1. A last line without its newline was being written
    when its writer died; what it announced was never begun, and it is left out. Anything else that is not as written
    raises JournalDamaged: from there on nobody knows what was done.
    """
    *whole, _torn = data.split(b"\n")
    entries: list[Entry] = []
    for number, line in enumerate(whole, start=1):
        entry = _entry(line)
        prev = entries[-1].hash if entries else FIRST
        if entry is None or entry.seq != number or entry.prev != prev:
            raise JournalDamaged(
                f"{file}:{number}: not as it was written, or lines before it are missing",
                hint="compare the host's and the controller's copy by hand; nothing was changed",
            )
        entries.append(entry)
    return tuple(entries)


def _entry(line: bytes) -> Entry | None:
    """None unless it is, byte for byte, what `Entry.line` writes."""
    try:
        found = json.loads(line)
        entry = Entry(
            seq=int(found["seq"]),
            at=str(found["at"]),
            boot_id=str(found["boot_id"]),
            run=str(found["run"]),
            what=What(found["what"]),
            payload=dict(found["payload"]),
            prev=str(found["prev"]),
        )
        return entry if entry.line == line + b"\n" else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def merge(controller: Sequence[Entry], host: Sequence[Entry]) -> tuple[Entry, ...]:
    """One history of both copies: the longer one, if the other is its beginning. JournalDamaged if they part.

    The controller writes first, so its copy may be ahead by what never reached the host.
    """
    shorter, longer = sorted((tuple(controller), tuple(host)), key=len)
    if longer[: len(shorter)] != shorter:
        raise JournalDamaged(
            "the journals on the host and on this controller tell different stories",
            hint="another controller may have used this host; compare them by hand; nothing was changed",
        )
    return longer

"""The lines of a journal: one JSON object each, chained by hashes, so that what is missing or changed shows. Pure."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Self

from harness.base.errors import AnotherMachine, JournalDamaged
from harness.lab.lease.baseline import Baseline
from harness.lab.lease.fields import MODULES, Field, prose, text, words
from harness.model.change import ChangeKind
from harness.mutants.livepatching import NAME

FIRST = "0" * 64
"""What stands for the previous line's hash in the first line."""


class What(enum.StrEnum):
    """What a line says."""

    OPENED = "opened"  # a run begins: who, why
    BASELINE = "baseline"  # how a device, or the host, was before anything was changed
    INTENT = "intent"  # a change is about to be made
    RESTORED = "restored"  # everything is as the baselines say, read back: what stands before is closed
    QUARANTINED = "quarantined"  # it is not, and could not be made so


@dataclass(frozen=True)
class MachineIdentity:
    """Which machine it is, by what does not change with its name or address. What a machine has not got is empty.

    `host_key`: SHA-256 of the key it proves to have, as ssh-keygen prints it; `machine_id`: machine-id(5); `product`:
    the UUID of its board or virtual machine (SMBIOS, type 1).
    """

    host_key: str = ""
    machine_id: str = ""
    product: str = ""

    def as_payload(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, object]) -> Self:
        """What is missing is empty."""
        return cls(**{field.name: str(payload.get(field.name, "")) for field in fields(cls)})

    def told_from(self, other: MachineIdentity) -> str:
        """In what they differ, for a person; empty: it is the same machine."""
        pairs = [(one.name, getattr(self, one.name), getattr(other, one.name)) for one in fields(self)]
        return ", ".join(
            f"{name.replace('_', ' ')} {ours or 'none'} and not {theirs or 'none'}"
            for name, ours, theirs in pairs
            if ours != theirs
        )


@dataclass(frozen=True)
class JournalLine:
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

    @cached_property
    def hash(self) -> str:
        return hashlib.sha256(_json(self._body)).hexdigest()

    @cached_property
    def line(self) -> bytes:
        """With its newline; the hash stands last, where a shell script finds it."""
        return _json({**self._body, "hash": self.hash}) + b"\n"


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def parse(data: bytes, file: str) -> tuple[JournalLine, ...]:
    """The lines of one journal.

    Accepted format: what `JournalLine.line` writes, seq counting from 1. A last line without its newline was being
    written when its writer died; what it announced was never begun, and it is left out. Anything else that is not as
    written raises JournalDamaged: from there on nobody knows what was done.
    """
    *whole, _torn = data.split(b"\n")
    entries: list[JournalLine] = []
    for place, line in enumerate(whole, start=1):
        entry = read_line(line)
        prev = entries[-1].hash if entries else FIRST
        if entry is None or entry.seq != place or entry.prev != prev:
            raise JournalDamaged(
                f"{file}:{place}: not as it was written, or lines before it are missing",
                hint="maskall restore HOST --journal host|controller takes the copy that is whole; nothing was changed",
            )
        entries.append(entry)
    return tuple(entries)


def read_line(line: bytes) -> JournalLine | None:
    """None unless it is, byte for byte, what `JournalLine.line` writes, without its newline, and each field one that we
    can have written."""
    try:
        found = json.loads(line)
        entry = JournalLine(
            seq=int(found["seq"]),
            at=str(found["at"]),
            boot_id=str(found["boot_id"]),
            run=str(found["run"]),
            what=What(found["what"]),
            payload=dict(found["payload"]),
            prev=str(found["prev"]),
        )
        sound = entry.line == line + b"\n" and not problem(entry)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return entry if sound else None


_PROSE = prose(25_000)
_SUBJECTS: Mapping[ChangeKind, Field] = {
    ChangeKind.DRIVER: words("bdf"),
    ChangeKind.CONFIG: words("bdf"),
    ChangeKind.RESET: words("bdf"),
    ChangeKind.DOMAIN: words("domain"),
    ChangeKind.MODULE: lambda value: value in MODULES,
    ChangeKind.LIVEPATCH: text(NAME),
    ChangeKind.FILE: words("path"),
    ChangeKind.REBOOT: words("boot"),
    ChangeKind.PERSISTENT: _PROSE,  # names of packages; what is taken back stands in the backup's own manifest
}
_MACHINE: Mapping[str, Field] = {
    "host_key": text(r"(?:SHA256:[A-Za-z0-9+/]{43})?"),
    "machine_id": text(r"(?:[0-9a-f]{32})?"),
    "product": text(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?"),
}
_PAYLOADS: Mapping[What, Mapping[str, Field]] = {
    What.OPENED: {"owner": _PROSE, "reason": _PROSE, **_MACHINE},
    What.INTENT: {"kind": lambda value: value in set(ChangeKind), "text": _PROSE, "undo": _PROSE, "subject": _PROSE},
    What.RESTORED: {},
    What.QUARANTINED: {"reason": _PROSE},
}
_HEAD: Mapping[str, Field] = {  # the others must be what the line before them says
    "at": words("at"),
    "boot_id": words("boot"),
    "run": words("run"),
}


def problem(entry: JournalLine) -> str:
    """The name of a field that cannot have been written by us; empty when all are sound."""
    for name, holds in _HEAD.items():
        if not holds(getattr(entry, name)):
            return name
    payload = entry.payload
    if entry.what is What.BASELINE:
        try:
            Baseline.from_payload(payload)
        except JournalDamaged as error:
            return error.message
        return ""
    known = _PAYLOADS[entry.what]
    for name, value in payload.items():
        if name not in known or not known[name](value):
            return name
    if entry.what is What.INTENT and not _SUBJECTS[ChangeKind(str(payload["kind"]))](payload.get("subject")):
        return f"subject of kind {payload['kind']}"
    return ""


def of_machine(entries: Sequence[JournalLine], machine: MachineIdentity, file: str) -> tuple[JournalLine, ...]:
    """`entries` if they are of this machine, as their first line says. AnotherMachine."""
    if entries:
        first = entries[0]
        said = MachineIdentity.from_payload(first.payload) if first.what is What.OPENED else MachineIdentity()
        differs = said.told_from(machine)
        if differs:
            raise AnotherMachine(
                f"{file}: its first line speaks of another machine: {differs}",
                hint="has the host another address or disk, or a new host key? See --journal of maskall restore; "
                "nothing was changed",
            )
    return tuple(entries)


def open_part(entries: Sequence[JournalLine]) -> tuple[JournalLine, ...]:
    """Empty when the last line says that all was restored: the tombstone."""
    return () if entries and entries[-1].what is What.RESTORED else tuple(entries)


def merge(controller: Sequence[JournalLine], host: Sequence[JournalLine]) -> tuple[JournalLine, ...]:
    """One history of both copies: the longer one, if the other is its beginning. JournalDamaged if they part.

    The controller writes first, so its copy may be ahead by what never reached the host.
    """
    shorter, longer = sorted((tuple(controller), tuple(host)), key=len)
    if longer[: len(shorter)] != shorter:
        raise JournalDamaged(
            "the journals on the host and on this controller tell different stories",
            hint="another controller may have used this host; nothing was changed; "
            "maskall restore HOST --journal host|controller takes one of them",
        )
    return longer

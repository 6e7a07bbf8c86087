"""Facts in a file: the program to read them by hand where ssh is not possible, and what it printed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import ParseError, UsageError
from harness.base.text import inert
from harness.lab.safety.facts.collect import PROGRAM
from harness.lab.safety.facts.facts import NEWEST, SECTIONS, HostFacts
from harness.lab.safety.facts.parse import parse_facts
from harness.transport.sections import split

MARK = "@@"
"""Stands before the name of each section in a file of facts."""

_MOST = 64 << 20  # bytes; a host with 500 functions and 1000 mounts has 3 MiB
_HINT = "made by 'maskall doctor --print-program', run as root on the host, or by 'maskall doctor HOST --raw FILE'"


@dataclass(frozen=True)
class Stored:
    """Facts of a file, and what a person should know about the file."""

    facts: HostFacts
    notes: tuple[str, ...]


def program() -> str:
    """The reading program, to be run by hand as root: `sh FILE > FACTS`."""
    return f"set -- {MARK} # maskall doctor --facts reads what this prints; it changes nothing\n{PROGRAM.read_text()}"


def kept(sections: dict[str, bytes]) -> bytes:
    """Sections as one file, in the form that `read` takes."""
    parts = [b"%s %s\n%s\n" % (MARK.encode(), name.encode(), data) for name, data in sections.items()]
    return b"".join(parts) + b"%s end\n" % MARK.encode()


def read(path: Path) -> Stored:
    """The facts of a file. UsageError in one line for whatever is wrong with it."""
    try:
        with path.open("rb") as file:  # not by its size: a pipe or a device tells none
            data = file.read(_MOST + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    if len(data) > _MOST:
        raise UsageError(f"{path}: more than {_MOST} bytes are no facts of a host", hint=_HINT)
    return _checked(data, str(path))


def _checked(data: bytes, path: str) -> Stored:
    data = data.replace(b"\r\n", b"\n")
    names = [name.decode("utf-8", "replace") for name in re.findall(rb"^@@ ([^\n]*)$", data, flags=re.MULTILINE)]
    if not names:
        raise UsageError(f"{path}: there is no line '{MARK} NAME' in it, so these are no facts of a host", hint=_HINT)
    twice, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UsageError(f"{path}: section {inert(twice)!r} stands in it twice: which one is true?", hint=_HINT)
    sections = split(data, MARK)
    whole = sections.pop("end", None) is not None
    if "program" in sections and not whole:
        raise UsageError(f"{path}: it was cut short: the last line '{MARK} end' is missing", hint=_HINT)
    version = re.match(rb"version (\d)$", sections.get("program", b"version 2"), flags=re.MULTILINE)
    if version is None or not 2 <= int(version[1]) <= NEWEST:
        hint = "read them with 'maskall doctor --print-program' of this maskall"
        raise UsageError(f"{path}: the program that printed it is of another version than 2 to {NEWEST}", hint=hint)
    user = re.search(rb"^uid ([1-9]\d*)$", sections.get("program", b""), flags=re.MULTILINE)
    if user:
        who = f"user {user[1].decode()}, who cannot see enough"
        raise UsageError(f"{path}: read by {who}", hint="run the program as root")
    try:
        facts = parse_facts(sections)
    except ParseError as error:
        raise UsageError(f"{path}: {error.message}", hint=_HINT) from error
    return Stored(facts, tuple(_notes(facts, sections)))


_UNTOLD = {
    1: "who has a disk open, routes of other tables, and whether a disk without a signature is zero",
    2: "what the kernel itself copies and encrypts with, and what other network namespaces have built on a card",
    3: "who moves data by RDMA, what tc sends on, what the kernel serves of USB, with whom tunnels and DRBD speak, and"
    " what guests that do not run are to have",
    4: "of pNFS and of IPsec without an interface, nor perhaps of bridges of Open vSwitch, of what tc sends on below"
    " the root, of cards that other network namespaces have, and of a TPM, a clock and a flash chip behind a function",
    5: "what the kernel's SCSI targets pass through, nor behind which function a network card has its transceiver",
}
"""What a program of this version does not tell, of what the next one does."""


def _notes(facts: HostFacts, sections: dict[str, bytes]) -> list[str]:
    untold = _UNTOLD.get(facts.version)
    notes = [f"read by an older program: it does not tell {untold}"] if untold else []
    strange = sorted(inert(name) for name in sections.keys() - SECTIONS)
    if strange:
        notes.append(f"nobody knows these sections, and nothing was made of them: {', '.join(strange)}")
    return notes

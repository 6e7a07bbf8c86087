"""Programs that print many things in one round trip, in sections that no output can forge."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import EvidenceError
from harness.base.text import inert
from harness.transport.base import Script, Transport, quote

Keep = Callable[[str, bytes], None]

MOST = 64 << 20
"""Bytes that one answer may have."""

_NAME = re.compile(r"^ *(?:section|attribute) ([a-z][\w.-]*) *(?:#.*)?$", re.MULTILINE | re.ASCII)


def ask(
    transport: Transport, program: Path, *arguments: str, deadline: Deadline, keep: Keep | None = None
) -> dict[str, bytes]:
    """What a reading program of ours printed, by section; `keep` gets each before anything is made of it.

    The program gets a separator nobody can foresee as its first argument and prints `SEPARATOR NAME` before each
    section, the last being `end`. EvidenceError when that is missing (the output was cut short), and when a section
    comes that the program does not print, or one comes twice: the host is hostile input, and names become files.
    """
    text = program.read_text()
    separator = f"@{secrets.token_hex(8)}"
    script = Script(f"set -- {quote([separator, *arguments])}\n{text}")
    result = transport.run(script, deadline=deadline)
    who = f"{transport.name}: the answer of {program.name}"
    if len(result.stdout) > MOST:
        raise EvidenceError(f"{who} has {len(result.stdout)} bytes, more than {MOST}", hint="is the host sound?")
    known, found, odd = names(text), dict[str, bytes](), list[str]()
    for name, data in _parts(result.stdout, separator):
        if name not in known or name in found:
            odd.append(name)
        else:
            found[name] = data
    whole = found.pop("end", None) is not None
    if keep is not None:
        for name, data in found.items():
            keep(name, data)
    if odd:
        told = f"{who} has a section that it must not have: {inert(odd[0])[:40]!r}"
        raise EvidenceError(told, hint="is the host sound?")
    if not whole:
        raise EvidenceError(f"{who} was cut short", hint="is the host alive?")
    return found


def names(program: str) -> frozenset[str]:
    """The sections that a program of ours prints, as its text says: `section NAME` on a line of its own."""
    return frozenset(_NAME.findall(program)) | {"end"}


def split(output: bytes, separator: str) -> dict[str, bytes]:
    """Accepted format: `SEPARATOR NAME` on a line of its own before each section; a newline ends a section."""
    return dict(_parts(output, separator))


def _parts(output: bytes, separator: str) -> Iterator[tuple[str, bytes]]:
    for part in re.split(rb"^%s " % separator.encode(), output, flags=re.MULTILINE)[1:]:
        name, _, data = part.partition(b"\n")
        yield name.decode("utf-8", "replace"), data.removesuffix(b"\n")

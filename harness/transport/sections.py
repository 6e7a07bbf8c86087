"""Programs that print many things in one round trip, in sections that no output can forge."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import EvidenceError
from harness.transport.base import Script, Transport, quote

Keep = Callable[[str, bytes], None]


def ask(
    transport: Transport, program: Path, *arguments: str, deadline: Deadline, keep: Keep | None = None
) -> dict[str, bytes]:
    """What a reading program of ours printed, by section; `keep` gets each before anything is made of it.

    The program gets a separator nobody can foresee as its first argument and prints `SEPARATOR NAME` before each
    section, the last being `end`. EvidenceError when that is missing: the output was cut short.
    """
    separator = f"@{secrets.token_hex(8)}"
    script = Script(f"set -- {quote([separator, *arguments])}\n{program.read_text()}")
    result = transport.run(script, deadline=deadline)
    found = split(result.stdout, separator)
    whole = found.pop("end", None) is not None
    if keep is not None:
        for name, data in found.items():
            keep(name, data)
    if not whole:
        raise EvidenceError(f"{transport.name}: the answer of {program.name} was cut short", hint="is the host alive?")
    return found


def split(output: bytes, separator: str) -> dict[str, bytes]:
    """Accepted format: `SEPARATOR NAME` on a line of its own before each section; a newline ends a section."""
    found = {}
    for part in re.split(rb"^%s " % separator.encode(), output, flags=re.MULTILINE)[1:]:
        name, _, data = part.partition(b"\n")
        found[name.decode("utf-8", "replace")] = data.removesuffix(b"\n")
    return found

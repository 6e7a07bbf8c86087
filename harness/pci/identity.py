"""Finding a device by what it is. Pure."""

from __future__ import annotations

import re

from harness.errors import LabError, ParseError
from harness.pci.address import Bdf

_LINE = re.compile(r"(\S+) [0-9a-f]{4}: ([0-9a-f]{4}:[0-9a-f]{4})(?: .*)?")


def find_device(lspci: str, identity: str) -> Bdf:
    """The address of the only function that is `identity` (vendor:device).

    Accepted format: `lspci -D -n`, lines `0000:04:00.0 0108: 1b36:0010 (rev 02)`. LabError when no or several functions
    match: an identity that is not unique names nothing.
    """
    found = []
    for number, line in enumerate(lspci.splitlines(), start=1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ParseError(f"{line!r}", file="lspci -D -n", line=number, expected="address class: vendor:device")
        if match[2] == identity:
            found.append(Bdf.parse(match[1]))
    if len(found) != 1:
        which = ", ".join(map(str, found)) or "none"
        raise LabError(f"{len(found)} devices are {identity} ({which})", hint="exactly one is needed; see lspci -D -n")
    return found[0]

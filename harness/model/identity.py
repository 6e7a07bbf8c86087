"""Finding a device by what it is. Pure."""

from __future__ import annotations

import re

from pydantic import Field, model_validator

from harness.base.errors import LabError, ParseError
from harness.base.modelpath import misplaced
from harness.base.strict import StrictModel
from harness.model.address import FUNCTION, Bdf

_LINE = re.compile(rf"({FUNCTION}) [0-9a-f]{{4}}: ([0-9a-f]{{4}}:[0-9a-f]{{4}})(?: .*)?")


class Identity(StrictModel):
    """Which physical device is meant, never by its address: what it is, and one thing no twin of it shares."""

    id: str = Field(
        pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$",
        examples=["8086:10d3"],
        description="vendor:device, as `lspci -nn` prints it",
    )
    subsystem: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$",
        examples=["8086:a01f"],
        description="vendor:device of the board, as `lspci -nnv` prints it: tells makes of the same chip apart",
    )
    serial: str | None = Field(
        None,
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        examples=["a0-36-9f-ff-ff-12-34-56"],
        description="`Device Serial Number` of `lspci -vv`, or the drive's own of `nvme list`",
    )
    mac: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$",
        examples=["'a0:36:9f:12:34:56'"],
        description="permanent address of a network card, `ethtool -P`; small letters, in quotes",
    )
    slot: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        examples=["'4'"],
        description="name of the physical slot below /sys/bus/pci/slots; in quotes if it is a number",
    )
    path: str | None = Field(
        None,
        pattern=rf"^{FUNCTION}(/[01][0-9a-f]\.[0-7])*$",
        examples=["0000:00:1c.4/00.0"],
        description="root port, then device.function below each bridge, as `lspci -DP` prints it",
    )

    @model_validator(mode="after")
    def _one_mark(self) -> Identity:
        marks = [name for name in ("serial", "mac", "slot", "path") if getattr(self, name) is not None]
        if len(marks) != 1:
            raise misplaced("give exactly one of serial, mac, slot and path", *marks[1:2])
        return self

    @property
    def mark(self) -> tuple[str, ...]:
        """What two entries for one device have in common. Functions of one card share its serial number and slot."""
        if self.mac or self.path:
            return ("mac", self.mac) if self.mac else ("path", self.path or "")
        return ("serial", self.serial, self.id) if self.serial else ("slot", self.slot or "", self.id)


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

"""The address of a PCI function."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.base.errors import ParseError

_BDF = re.compile(r"(?:([0-9a-fA-F]{4}):)?([0-9a-fA-F]{2}):([01][0-9a-fA-F])\.([0-7])")


@dataclass(frozen=True, order=True)
class Bdf:
    """Segment, bus, device, function; written 0000:04:00.0 as sysfs and Xen (`%pp`) write it."""

    segment: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Bdf:
        """Accepted format: `[SSSS:]BB:DD.F` in hexadecimal, the whole string; lspci leaves the segment out."""
        match = _BDF.fullmatch(text)
        if match is None:
            raise ParseError(f"{text!r} is not a PCI address", expected="an address as 0000:04:00.0 or 04:00.0")
        segment, bus, device, function = match.groups()
        return cls(int(segment or "0", 16), int(bus, 16), int(device, 16), int(function, 16))

    def __str__(self) -> str:
        return f"{self.segment:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"

    @property
    def ecam_offset(self) -> int:
        """Offset of this function's 4 KiB in the segment's enhanced configuration window (PCIe base spec 7.2.2)."""
        return self.bus << 20 | self.device << 15 | self.function << 12

"""The address of a PCI function."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from harness.base.errors import ParseError

SEGMENT = r"(?:[0-9a-f]{4}|[1-9a-f][0-9a-f]{4,7})"
"""A PCI domain as Linux and Xen print it (`%04x`); Intel's VMD makes some from 10000 on (vmd_find_free_domain)."""

FUNCTION = rf"{SEGMENT}:[0-9a-f]{{2}}:[01][0-9a-f]\.[0-7]"
"""A whole address in a regular expression, without a group."""

XEN_SEGMENTS = range(0x10000)
"""The domains Xen can name: its interface has 16 bits for them (physdev_pci_device_add.seg)."""

_BDF = re.compile(rf"(?:({SEGMENT}):)?([0-9a-f]{{2}}):([01][0-9a-f])\.([0-7])")


@dataclass(frozen=True, order=True)
class Bdf:
    """Segment, bus, device, function; written 0000:04:00.0 as sysfs and Xen (`%pp`) write it."""

    segment: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Bdf:
        """Accepted format: `[SSSS:]BB:DD.F` in hexadecimal, the whole string; lspci leaves the segment out.

        A segment has four digits, or five to eight where it needs them: `10000:e1:00.0`.
        """
        match = _BDF.fullmatch(text.lower())
        if match is None:
            raise ParseError(f"{text!r} is not a PCI address", expected="an address as 0000:04:00.0 or 04:00.0")
        segment, bus, device, function = match.groups()
        return cls(int(segment or "0", 16), int(bus, 16), int(device, 16), int(function, 16))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Stored as it is written."""
        text = core_schema.str_schema(pattern=f"^{FUNCTION}$")
        read = core_schema.no_info_after_validator_function(cls.parse, text)
        known = core_schema.union_schema([core_schema.is_instance_schema(cls), read])
        written = core_schema.plain_serializer_function_ser_schema(str, return_schema=text, when_used="json")
        return core_schema.json_or_python_schema(read, known, serialization=written)

    def __str__(self) -> str:
        return f"{self.segment:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"

    @property
    def known_to_xen(self) -> bool:
        """False for a function behind a VMD: Xen sees the address of some other segment, so nobody may be lent it."""
        return self.segment in XEN_SEGMENTS

    @property
    def ecam_offset(self) -> int:
        """Offset of this function's 4 KiB in the segment's enhanced configuration window (PCIe base spec 7.2.2)."""
        return self.bus << 20 | self.device << 15 | self.function << 12

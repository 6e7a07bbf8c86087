"""Two config spaces held against each other, register by register and bit by bit. Pure.

Names and bits are those of lspci; offsets those of the PCI Local Bus Specification 3.0, chapter 6, the PCI Power
Management Specification 1.2, chapter 3.2, and the PCI Express Base Specification 3.0, chapter 7.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.base.errors import ParseError
from harness.model.config import ConfigSpace

_COMMAND = (
    "I/O",
    "Mem",
    "BusMaster",
    "SpecCycle",
    "MemWINV",
    "VGASnoop",
    "ParErr",
    "Stepping",
    "SERR",
    "FastB2B",
    "DisINTx",
)
_STATUS = {3: "INTx", 4: "Cap", 5: "66MHz", 7: "FastB2B", 8: "ParErr", 11: ">TAbort", 12: "<TAbort", 13: "<MAbort"}
_STATUS |= {14: ">SERR", 15: "<PERR"}
_HEADER = {
    0x00: (2, "Vendor ID", {}),
    0x02: (2, "Device ID", {}),
    0x04: (2, "COMMAND", dict(enumerate(_COMMAND))),
    0x06: (2, "Status", _STATUS),
    0x08: (4, "Class and revision", {}),
    0x0C: (1, "Cache line size", {}),
    0x0D: (1, "Latency timer", {}),
    0x3C: (1, "Interrupt line", {}),
    0x3D: (1, "Interrupt pin", {}),
    **{0x10 + 4 * number: (4, f"BAR {number}", {}) for number in range(6)},
}
_CAPABILITIES: dict[int, tuple[str, dict[int, tuple[int, str, dict[int, str]]]]] = {
    0x01: ("PM", {4: (2, "control", {3: "NoSoftRst", 8: "PME-Enable", 15: "PME"})}),
    0x05: ("MSI", {2: (2, "control", {0: "Enable", 8: "Maskable"}), 4: (4, "address", {})}),
    0x09: ("Vendor", {}),
    0x10: (
        "PCIe",
        {
            8: (2, "device control", {0: "CorrErr", 1: "NonFatalErr", 2: "FatalErr", 3: "UnsupReq", 4: "RlxdOrd"}),
            10: (2, "device status", {0: "CorrErr", 1: "NonFatalErr", 2: "FatalErr", 3: "UnsupReq", 5: "TransPend"}),
            16: (2, "link control", {}),
            18: (2, "link status", {}),
        },
    ),
    0x11: ("MSI-X", {2: (2, "control", {14: "MASKALL", 15: "Enable"}), 4: (4, "table", {}), 8: (4, "PBA", {})}),
}


@dataclass(frozen=True)
class Register:
    """A register that differs: its place in config space, its name, both values with those bits that differ."""

    offset: int
    name: str
    stock: str
    control: str


def differing(stock: ConfigSpace, control: ConfigSpace) -> list[Register]:
    """Every register that differs, in order; a byte that no register is known for stands for itself."""
    if stock.gone or control.gone:
        words = ["nobody answers" if one.gone else "answers" for one in (stock, control)]
        return [] if words[0] == words[1] else [Register(0, "device", *words)]
    found = []
    for offset, size, name, bits in _registers(stock):
        one, other = (space.data[offset : offset + size] for space in (stock, control))
        if one != other:
            found.append(Register(offset, name, *_shown(one, other, bits)))
    return found


def _registers(space: ConfigSpace) -> Iterator[tuple[int, int, str, dict[int, str]]]:
    """All of config space from front to back: offset, size, name, bits."""
    known = dict(_HEADER) if _header_type(space) == 0 else {at: one for at, one in _HEADER.items() if at < 0x10}
    starts: list[tuple[int, str]] = []
    try:
        for identity, offset in space.capabilities():
            name, registers = _CAPABILITIES.get(identity, (f"capability {identity:#04x}", {}))
            starts.append((offset, name))
            known |= {offset + at: (size, f"{name} {word}", bits) for at, (size, word, bits) in registers.items()}
    except ParseError:  # a list that leads nowhere still has its bytes
        pass
    ends = [*(offset for offset, _ in sorted(starts)), 0x100]
    within = {
        at: name for (start, name), end in zip(sorted(starts), ends[1:], strict=False) for at in range(start, end)
    }
    offset = 0
    while offset < len(space.data):
        size, name, bits = known.get(offset, (1, within.get(offset, "extended" if offset >= 0x100 else "byte"), {}))
        yield offset, size, name, bits
        offset += size


def _header_type(space: ConfigSpace) -> int | None:
    try:
        return space.header_type
    except ParseError:
        return None


def _shown(stock: bytes, control: bytes, bits: dict[int, str]) -> tuple[str, str]:
    one, other = int.from_bytes(stock, "little"), int.from_bytes(control, "little")
    changed = [(bit, name) for bit, name in bits.items() if (one ^ other) >> bit & 1]

    def words(value: int) -> str:
        told = " ".join(f"{name}{'+' if value >> bit & 1 else '-'}" for bit, name in changed)
        return f"{value:#0{2 + 2 * len(stock)}x}{' ' if told else ''}{told}"

    return words(one), words(other)

"""PCI configuration space as bytes: COMMAND, capabilities, MSI-X, memory BARs. Pure.

Offsets and bits are those of the PCI Local Bus Specification 3.0, chapters 6.1 and 6.8.2, and of Linux
`include/uapi/linux/pci_regs.h`. All values are little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.base.errors import ParseError
from harness.base.strict import Hex

HEADER_BYTES = 64  # what sysfs gives to a reader without CAP_SYS_ADMIN (Linux pci_read_config)
MAX_BYTES = 4096

_STATUS_CAPABILITIES = 1 << 4
_CAPABILITY_MSI = 0x05
_CAPABILITY_MSIX = 0x11
_CAPABILITY_POINTER = {0: 0x34, 1: 0x34, 2: 0x14}  # by header type: device, bridge, CardBus bridge
_BAR_COUNT = {0: 6, 1: 2, 2: 1}


def _sixteen_bits(value: int, what: str) -> None:
    if not 0 <= value <= 0xFFFF:
        raise ParseError(f"{what} {value:#x} does not fit its register", expected="a 16-bit value")


def _sign(bit: bool) -> str:
    return "+" if bit else "-"


@dataclass(frozen=True)
class CommandRegister:
    """The 16-bit COMMAND register (offset 4). Raises ParseError when the value has more than 16 bits."""

    value: Hex

    def __post_init__(self) -> None:
        _sixteen_bits(self.value, "COMMAND")

    @property
    def memory(self) -> bool:
        """The device answers memory accesses; without it Xen cannot reach the MSI-X table (`memory_decoded`)."""
        return bool(self.value & 1 << 1)

    @property
    def bus_master(self) -> bool:
        """The device may write to memory, which is also how it sends MSI."""
        return bool(self.value & 1 << 2)

    @property
    def intx_disabled(self) -> bool:
        """The legacy interrupt line is off."""
        return bool(self.value & 1 << 10)

    def __str__(self) -> str:
        return f"Mem{_sign(self.memory)} Bus{_sign(self.bus_master)} DisINTx{_sign(self.intx_disabled)}"


@dataclass(frozen=True)
class MsixControl:
    """The 16-bit message control of MSI-X (capability + 2). Raises ParseError when the value has more bits."""

    value: Hex

    def __post_init__(self) -> None:
        _sixteen_bits(self.value, "MSI-X control")

    @property
    def enabled(self) -> bool:
        """MSI-X Enable, bit 15."""
        return bool(self.value & 1 << 15)

    @property
    def masked(self) -> bool:
        """MASKALL ("Function Mask"), bit 14: no vector of the function is delivered."""
        return bool(self.value & 1 << 14)

    @property
    def table_size(self) -> int:
        """Number of vectors in the table, 1 to 2048."""
        return (self.value & 0x7FF) + 1

    def __str__(self) -> str:
        return f"Enable{_sign(self.enabled)} Masked{_sign(self.masked)}"


@dataclass(frozen=True)
class MsixCapability:
    """Where the MSI-X capability is and what it points at; offsets in bytes from the start of the BAR."""

    offset: int  # of the capability in config space
    control: MsixControl
    table_bar: int
    table_offset: int
    pba_bar: int
    pba_offset: int


@dataclass(frozen=True)
class ConfigSpace:
    """The bytes of one function's config space.

    Accepted format: 64 to 4096 raw bytes, as read from `/sys/bus/pci/devices/BDF/config`; 64 is what a reader
    without privilege gets, and then everything behind the header raises ParseError instead of reading as absent.
    Every property but `gone` raises ParseError when the device is gone: all ones are an answer of the bus, not of
    the device.
    """

    data: bytes
    file: str = field(default="<config>", compare=False)

    def __post_init__(self) -> None:
        if not HEADER_BYTES <= len(self.data) <= MAX_BYTES:
            raise self._error(f"{len(self.data)} bytes", f"{HEADER_BYTES} to {MAX_BYTES} bytes of config space")

    def _error(self, message: str, expected: str) -> ParseError:
        return ParseError(message, file=self.file, expected=expected)

    @property
    def gone(self) -> bool:
        """Every byte is 0xff: nobody answers at this address."""
        return self.data.count(0xFF) == len(self.data)

    def _read(self, offset: int, size: int) -> int:
        if self.gone:
            raise self._error("every byte is 0xff", "a device that is present")
        if offset + size > len(self.data):
            raise self._error(
                f"only {len(self.data)} bytes, offset {offset:#x} wanted",
                "at least 256 bytes of config space, read as root",
            )
        return int.from_bytes(self.data[offset : offset + size], "little")

    @property
    def vendor(self) -> int:
        """Vendor ID, 16 bit."""
        return self._read(0x00, 2)

    @property
    def device(self) -> int:
        """Device ID, 16 bit."""
        return self._read(0x02, 2)

    @property
    def command(self) -> CommandRegister:
        """The COMMAND register. ParseError when it reads as all ones, which no device answers: half of it is gone."""
        return CommandRegister(self._present(0x04))

    def _present(self, offset: int) -> int:
        """A 16-bit register with bits that are reserved, so 0 in a device that answers."""
        value = self._read(offset, 2)
        if value == 0xFFFF:
            raise self._error(f"offset {offset:#x} reads as 0xffff", "a device that answers")
        return value

    @property
    def class_code(self) -> int:
        """Class, subclass and programming interface, 24 bit: 0x010802 is NVMe."""
        return self._read(0x09, 3)

    @property
    def header_type(self) -> int:
        """0 device, 1 PCI bridge, 2 CardBus bridge; without the multi-function bit."""
        header_type = self._read(0x0E, 1) & 0x7F
        if header_type not in _BAR_COUNT:
            raise self._error(f"header type {header_type:#x}", "0, 1 or 2")
        return header_type

    @property
    def subsystem(self) -> tuple[int, int] | None:
        """Subsystem vendor and device ID; None for bridges, whose header has no such field."""
        if self.header_type != 0:
            return None
        return self._read(0x2C, 2), self._read(0x2E, 2)

    def bar_address(self, index: int) -> int | None:
        """Bus address of memory BAR `index`; None when it is an I/O BAR, unassigned or the upper half of another.

        Raises ParseError for a BAR this header does not have and for the reserved memory type. Source: Linux
        `__pci_read_base`.
        """
        count = _BAR_COUNT[self.header_type]
        if not 0 <= index < count:
            raise self._error(f"BAR {index}", f"0 to {count - 1} in a header of type {self.header_type}")
        current = 0
        while current <= index:
            value = self._read(0x10 + 4 * current, 4)
            kind = value & 0b111
            wide = kind == 0b100
            if kind == 0b110:
                raise self._error(f"BAR {current} = {value:#x} has the reserved memory type", "32 or 64 bit")
            if wide and current + 1 == count:
                raise self._error(f"BAR {current} is 64 bits wide but the last one", "room for its upper half")
            if current == index:
                if value & 1:
                    return None
                address = value & ~0xF
                if wide:
                    address |= self._read(0x14 + 4 * current, 4) << 32
                return address or None
            current += 2 if wide else 1
        return None

    def capabilities(self) -> Iterator[tuple[int, int]]:
        """(ID, offset) of every capability in list order.

        Raises ParseError where the list cannot be followed to its end: a loop, a pointer out of bounds or into nothing
        (all ones, or zeroes where an ID and a pointer should be). Source: Linux
        `__pci_find_next_cap_ttl`, which gives up quietly where this raises.
        """
        if not self._read(0x06, 2) & _STATUS_CAPABILITIES:
            return
        seen: set[int] = set()
        offset = self._read(_CAPABILITY_POINTER[self.header_type], 1) & ~0b11
        if not offset:
            raise self._error(
                "Status says there are capabilities, the pointer leads nowhere", "an offset of 0x40 or more"
            )
        while offset:
            if offset < HEADER_BYTES:
                raise self._error(f"capability pointer {offset:#x} into the header", "an offset of 0x40 or more")
            if offset in seen:
                raise self._error(f"the capability list loops at {offset:#x}", "a list that ends")
            seen.add(offset)
            identity = self._read(offset, 1)
            following = self._read(offset + 1, 1)
            if identity == 0xFF or not (identity or following):
                raise self._error(f"capability {offset:#x} reads as {identity:#04x}", "a capability ID")
            yield identity, offset
            offset = following & ~0b11

    @property
    def msi(self) -> bool:
        """Whether it has MSI. Raises ParseError as `capabilities`."""
        return any(identity == _CAPABILITY_MSI for identity, _ in self.capabilities())

    @property
    def msix(self) -> MsixCapability | None:
        """The MSI-X capability; None when the device has none. Raises ParseError when that cannot be known."""
        for identity, offset in self.capabilities():
            if identity != _CAPABILITY_MSIX:
                continue
            table, pba = self._read(offset + 4, 4), self._read(offset + 8, 4)
            if table & 0b111 > 5 or pba & 0b111 > 5:
                raise self._error(f"MSI-X table {table:#x} or PBA {pba:#x} names a reserved BAR", "BAR 0 to 5")
            return MsixCapability(
                offset=offset,
                control=MsixControl(self._present(offset + 2)),
                table_bar=table & 0b111,
                table_offset=table & ~0b111,
                pba_bar=pba & 0b111,
                pba_offset=pba & ~0b111,
            )
        return None

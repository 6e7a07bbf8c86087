"""One PCI function of the fake host: what it is, what state it is in, and its config space as bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

_PM, MSIX, _EXPRESS = 0x40, 0x50, 0x80  # where the capabilities are
_AER, _DSN, _ACS, _SRIOV = 0x100, 0x140, 0x160, 0x180
_BRIDGE = 0x0604
PCIBACK = "pciback"


@dataclass
class Function:
    """`driver` is what Linux binds by itself; `bound` what is bound now."""

    bdf: str
    id: str
    class_code: int  # 24 bit
    driver: str | None = None
    parent: str | None = None  # BDF of the bridge above
    subsystem: str = "0000:0000"
    slot: str | None = None
    net: str | None = None  # name of its network interface
    mac: str = ""
    nvme: str | None = None  # name of its controller
    serial: bytes = b""  # of the drive
    model: bytes = b""
    dsn: int | None = None  # Device Serial Number capability
    vectors: int = 0
    flr: bool = True
    total_vfs: int = 0
    boot_vga: bool = False
    resets: tuple[str, ...] = ("flr", "bus")
    bound: str | None = None
    override: str = ""
    owner: str = "d0"  # as debug key Q shows it
    power_control: str = "on"
    numvfs: int = 0
    up: bool = True  # its network interface; a newly bound one is down until somebody brings it up
    config: bytearray = field(default_factory=bytearray)

    @property
    def bridge(self) -> bool:
        return self.class_code >> 8 == _BRIDGE

    @property
    def bus(self) -> int:
        return int(self.bdf[5:7], 16)

    @property
    def key(self) -> str:
        """As libxl spells it in xenstore."""
        return self.bdf.replace(":", "-").replace(".", "-")

    def word(self, offset: int, value: int | None = None, size: int = 2) -> int:
        """Read config space, or write it."""
        if value is not None:
            self.config[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        return int.from_bytes(self.config[offset : offset + size], "little")

    @property
    def command(self) -> int:
        return self.word(4)

    @property
    def msix(self) -> int | None:
        """Message control; None without the capability."""
        return self.word(MSIX + 2) if self.vectors else None

    def power_on(self, secondary: int = 0) -> None:
        """Fresh config space, nothing bound. `secondary`: bus number below a bridge."""
        self.config = bytearray(4096)
        vendor, device = (int(part, 16) for part in self.id.split(":"))
        self.word(0, vendor)
        self.word(2, device)
        self.word(4, 2 if not self.bridge else 6)
        self.word(6, 0x10)
        self.word(8, self.class_code << 8 | 1, 4)
        self.word(0x0E, 1 if self.bridge else 0, 1)
        if self.bridge:
            self.config[0x18:0x1B] = bytes([self.bus, secondary, secondary])
        else:
            self.word(0x10, 0xFE000000 | self.bus << 16, 4)
            self.word(0x2C, int(self.subsystem[:4], 16))
            self.word(0x2E, int(self.subsystem[5:], 16))
        self.word(0x34, _PM, 1)
        self._capabilities()
        self.bound, self.override, self.owner = None, "", "d0"
        self.power_control, self.numvfs = "on", 0

    def _capabilities(self) -> None:
        chain = [(_PM, 0x01), *([(MSIX, 0x11)] if self.vectors else []), (_EXPRESS, 0x10)]
        for (offset, kind), follower in zip(chain, [*(place for place, _ in chain[1:]), 0], strict=True):
            self.config[offset : offset + 2] = bytes([kind, follower])
        self.word(_PM + 2, 0x0003)
        self.word(_PM + 4, 0x0008)  # NoSoftRst+: D3 and back is no reset
        if self.vectors:
            self.word(MSIX + 2, self.vectors - 1)
            self.word(MSIX + 4, 0x2000, 4)
            self.word(MSIX + 8, 0x3000, 4)
        self.word(_EXPRESS + 2, 0x0042 | (0x0100 if self.slot else 0) if self.bridge else 0x0002)
        self.word(_EXPRESS + 4, 0x8000 | (1 << 28 if self.flr else 0), 4)
        extended = [(_AER, 0x0001, 2)]
        extended += [(_DSN, 0x0003, 1)] if self.dsn is not None else []
        extended += [(_ACS, 0x000D, 1)] if self.bridge else []
        extended += [(_SRIOV, 0x0010, 1)] if self.total_vfs else []
        for (offset, kind, version), follower in zip(
            extended, [*(place for place, _, _ in extended[1:]), 0], strict=True
        ):
            self.word(offset, kind | version << 16 | follower << 20, 4)
        if self.dsn is not None:
            self.word(_DSN + 4, self.dsn, 8)
        if self.bridge:
            self.word(_ACS + 4, 0x001D001D, 4)  # Xen and Linux switch on what there is
            self.word(_ACS + 6, 0x001D)
        if self.total_vfs:
            self.word(_SRIOV + 0x0C, self.total_vfs)
            self.word(_SRIOV + 0x0E, self.total_vfs)

    def drive(self, *, working: bool) -> None:
        """A driver sets it to work (bus mastering, MSI-X on, INTx off), or lets go of it; MASKALL stays as it is."""
        self.up = False
        if not self.bridge:
            self.word(4, 0x0406 if working else 0x0002)
        if self.msix is not None:
            self.word(MSIX + 2, self.msix & 0x7FFF | (0x8000 if working else 0))

    def reset(self) -> None:
        """What Linux leaves after a reset: COMMAND restored, MASKALL gone."""
        if self.msix is not None:
            self.word(MSIX + 2, self.msix & 0x87FF)

"""What was seen of one device at one checkpoint: hardware, Xen and guest, held apart. Pure.

A view that could not be read is None, a fact inside a view that could not be read is None; neither ever
counts as "all is well".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from harness.model.address import Bdf
from harness.model.config import CommandRegister, MsixControl


@dataclass(frozen=True)
class RawRef:
    """A file of the run's evidence (path relative to the run's directory), its SHA-256, and a line in it (0: none)."""

    path: str
    sha256: str
    line: int = 0

    def at(self, line: int) -> RawRef:
        """The same file at another line."""
        return RawRef(self.path, self.sha256, line)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True)
class Position:
    """How far a collector has come: files stored. What they hold of the logs is what was read of them."""

    files: int
    msix_offset: int | None  # of the device's capability in config space


class Checkpoint(enum.StrEnum):
    """C0..C8 as docs/scenarios.md describes them; guest A suffers the ending, guest B follows."""

    C0 = "C0"
    C1 = "C1"
    C2 = "C2"
    C3 = "C3"
    C4 = "C4"
    C5 = "C5"
    C6 = "C6"
    C7 = "C7"
    C8 = "C8"

    @property
    def moment(self) -> str:
        return _MOMENTS[self]


_MOMENTS = {
    Checkpoint.C0: "dom0's own driver",
    Checkpoint.C1: "bound to pciback, idle",
    Checkpoint.C2: "guest A's driver up",
    Checkpoint.C3: "fault applied, domain alive",
    Checkpoint.C4: "domain gone",
    Checkpoint.C5: "next create returned",
    Checkpoint.C6: "guest B's driver up",
    Checkpoint.C7: "back to dom0's driver",
    Checkpoint.C8: "the rest of A's domain ended under guest B",
}


@dataclass(frozen=True)
class HardwareView:
    """The device as its config space shows it in dom0."""

    gone: bool  # every config byte reads 0xff
    command: CommandRegister | None
    control: MsixControl | None
    driver: str | None  # dom0 driver bound to the device, None when unbound
    raw: RawRef
    physfn: str | None = None  # BDF of its physical function, for a virtual one


@dataclass(frozen=True)
class TableView:
    """The mask bit of every entry of the device's own MSI-X table, and the pending bits."""

    masked: tuple[bool, ...]
    raw: RawRef


@dataclass(frozen=True)
class VectorMask:
    """One row of `xl debug-keys M`: what Xen wants (host, guest) and what the table entry reads (hardware)."""

    irq: int
    host: bool
    guest: bool
    hardware: bool | None
    line: int


@dataclass(frozen=True)
class XenView:
    """The device and its interrupts as the hypervisor's debug keys print them."""

    owner: str | None  # "d0", "d3", "DomIO"; None: Xen does not list the device
    irqs: tuple[int, ...]
    masks: tuple[VectorMask, ...]
    unbound: tuple[int, ...]  # PCI-MSI irqs of this device, or of none, that are mapped but bound to nobody
    raw_keys: RawRef
    owner_line: int = 0
    bound: dict[int, tuple[str, ...]] = field(default_factory=dict)  # irq of this device -> domains it is bound to


@dataclass(frozen=True)
class GuestView:
    """The device as the guest that owns it sees it, around a burst of forced traffic."""

    domain: str
    command: CommandRegister | None
    control: MsixControl | None
    vectors: int  # interrupts the driver holds, by msi_irqs
    before: int  # sum of their counts before the traffic
    after: int  # and after
    traffic_ok: bool
    driver: str | None
    raw: RawRef

    @property
    def delta(self) -> int:
        """Interrupts that arrived during the traffic."""
        return self.after - self.before


@dataclass(frozen=True)
class DomainView:
    """Which domains exist, and which of them libxl says has the device."""

    names: dict[int, str]  # domid -> name; a zombie's is "(null)"
    device_owner: int | None  # xenstore /libxl/pci/<bdf>/domid
    raw: RawRef
    owner_unread: str = ""  # what xenstore-read said instead of an owner or of none


@dataclass(frozen=True)
class Observation:
    """All views of one device at one checkpoint."""

    checkpoint: Checkpoint
    device: Bdf
    seconds: float  # since the scenario began
    hardware: HardwareView | None = None
    table: TableView | None = None
    xen: XenView | None = None
    guest: GuestView | None = None
    domains: DomainView | None = None


CONFIG = "config.hex"


"""The section that only a look at the device has; a reading without it is of the logs alone."""


@dataclass(frozen=True)
class Exercised:
    """A driver that was made to work: in which domain ("d3"), and the file of what exercise.sh printed."""

    domain: str
    file: str


@dataclass(frozen=True)
class Reading:
    """One look at a host: `files` below `folder`. Both logs among them go on where the reading before them ended."""

    checkpoint: Checkpoint
    seconds: float  # since the scenario began
    folder: str
    files: tuple[str, ...]
    guest: Exercised | None = None
    boot: bool = False  # the logs begin with the boot of the host

    @property
    def shows_device(self) -> bool:
        return CONFIG in self.files


@dataclass(frozen=True)
class RoundReading:
    """What was read after one round: of the guest while it lived, and below `folder` what it left behind."""

    number: int  # from 1, which is guest A's
    domid: int
    guest: Exercised | None
    folder: str
    files: tuple[str, ...]

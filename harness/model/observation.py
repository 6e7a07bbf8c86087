"""What was seen of one device at one checkpoint: hardware, Xen and guest, held apart. Pure.

A view that could not be read is None, a fact inside a view that could not be read is None; neither ever
counts as "all is well".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.model.address import Bdf
from harness.model.checkpoint import Checkpoint
from harness.model.config import Command, MsixControl
from harness.model.raw import RawRef


@dataclass(frozen=True)
class HardwareView:
    """The device as its config space shows it in dom0."""

    gone: bool  # every config byte reads 0xff
    command: Command | None
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
    command: Command | None
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

"""What the safety gate knows of a host. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.model.address import FUNCTION, Bdf
from harness.model.config import ConfigSpace

PCI_PATH = re.compile(rf"/({FUNCTION})(?=/|$)")


NEWEST = 6
LATER: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("program", "devlinks", "iscsi", "exclusive", "chars", "users", "tty", "display"), 2),
        **dict.fromkeys(("netconsole", "tables", "exported"), 2),
        **dict.fromkeys(("majors", "engines", "namespaces", "frames", "mapped"), 3),
        **dict.fromkeys(("modules", "attached", "rdma", "redirects", "peers", "meant"), 4),
        **dict.fromkeys(("layouts", "ipsec"), 5),
    }
)
"""Since which version of the reading program a section is there: in stored facts of an older one it is no loss."""
SECTIONS = LATER.keys() | {
    *("boot_id", "kernel", "os_release", "cmdline", "consoles", "ssh", "pci", "drivers", "config", "slots", "block"),
    *("nvme", "btrfs", "signatures", "mounts", "swaps", "zpool", "net", "links", "addresses", "routes", "routes6"),
    *("owners", "backends", "xen", "tools", "run"),
}


@dataclass(frozen=True)
class FactLine:
    """One line of what the host answered: the evidence of a finding."""

    section: str
    number: int
    text: str


@dataclass(frozen=True)
class Thing:
    """A block device, network interface or drive: its place below /sys/devices, its attributes, its neighbours."""

    name: str
    attributes: Mapping[str, str]
    relations: frozenset[tuple[str, str]]  # (kind, other name)
    lines: tuple[FactLine, ...]

    @property
    def place(self) -> str:
        """Its directory in sysfs; empty when unknown."""
        return self.attributes.get("realpath", "")

    def related(self, *kinds: str) -> set[str]:
        """Names of its neighbours of these kinds."""
        return {other for kind, other in self.relations if kind in kinds}


@dataclass(frozen=True)
class Function:
    """One PCI function. What sysfs did not tell is empty or None."""

    bdf: Bdf
    place: str  # below /sys/devices
    id: str  # vendor:device
    subsystem: str
    code: str  # of its class: base class, subclass, programming interface, two hexadecimal digits each
    driver: str | None
    override: str  # `(null)` or nothing where no driver is meant
    reset_methods: tuple[str, ...] | None  # None: the kernel is too old to tell them and a reset exists
    boot_vga: bool
    numvfs: int
    physfn: str  # where its physical function is; empty unless it is a virtual one
    iommu_group: str
    config: ConfigSpace | None
    slot: str | None
    doubts: tuple[
        tuple[str, FactLine], ...
    ]  # what was listed twice, contradicts or was lost, in words; then it is not lent
    macs: frozenset[str]
    netdevs: frozenset[str]
    blocks: frozenset[str]
    serials: frozenset[str]  # Device Serial Number, and those of its NVMe controllers
    lines: tuple[FactLine, ...]

    @property
    def where(self) -> tuple[FactLine, ...]:
        """The line that tells its place, as evidence."""
        return self.lines[:1]

    @property
    def base(self) -> str:
        """Its base class; empty when that cannot be read."""
        return self.code[:2]

    @property
    def kind(self) -> str:
        """Its base class and subclass; empty when that cannot be read."""
        return self.code[:4]

    @property
    def chain(self) -> tuple[str, ...]:
        """Addresses from the root port to this function."""
        return tuple(PCI_PATH.findall(self.place))

    @property
    def path(self) -> str:
        """As `Identity.path` writes it."""
        chain = self.chain
        return "/".join([chain[0], *(address.rpartition(":")[2] for address in chain[1:])]) if chain else ""

    @property
    def marks(self) -> str:
        """What tells it from its twins, for a person."""
        named = [f"serial {text}" for text in sorted(self.serials)] + [f"mac {text}" for text in sorted(self.macs)]
        return ", ".join([*named, *([f"slot {self.slot}"] if self.slot else []), f"path {self.path}"])


@dataclass(frozen=True)
class HostFacts:
    """A host at one moment."""

    functions: Mapping[Bdf, Function]
    blocks: Mapping[str, Thing]
    interfaces: Mapping[str, Thing]
    sections: Mapping[str, tuple[FactLine, ...]]
    boot_id: str
    kernel: str
    os_name: str
    xen_version: str | None
    virt_caps: frozenset[str] | None
    tools: frozenset[str]
    ssh_address: str | None  # ours on the host: the third word of SSH_CONNECTION
    ssh_client: str | None
    busybox: tuple[str, ...] = ()
    version: int = 1
    """Of the reading program; 1 did not tell its own. See `LATER`."""
    strange: tuple[Thing, ...] = ()
    """Functions whose address or place cannot be read: nobody lends them, and they may be anybody's siblings."""

    def missing(self, *names: str) -> FactLine | None:
        """The first of these sections that is not there or says that it could not be read."""
        for name in names:
            if name not in self.sections:
                if self.version < LATER.get(name, 1):
                    continue
                return FactLine(name, 0, "not read")
            for line in self.sections[name]:
                if line.text.startswith("missing "):
                    return line
        return None

    def unread(self, *names: str) -> FactLine | None:
        """The first line of these sections that says that something could not be read."""
        return next((line for name in names for line in self.lines(name) if line.text.startswith("missing ")), None)

    def family(self, function: Function) -> tuple[Function, ...]:
        """A function and its virtual ones: what they carry and store goes with it."""
        return (function, *(one for one in self.functions.values() if one.physfn == function.place))

    def peers(self, name: str) -> tuple[str, ...]:
        """Addresses of the other ends with which a tunnel, DRBD, OCFS2 or GFS2 speaks; none when nobody tells them."""
        pairs = (line.text.split(" ") for line in self.lines("peers"))
        return tuple(pair[1] for pair in pairs if pair[0] == name and len(pair) == 2)

    def lines(self, name: str) -> tuple[FactLine, ...]:
        """Lines of a section; empty ones are left out."""
        return self.sections.get(name, ())

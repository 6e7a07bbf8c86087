"""Whether a run was on hardware, told by what its raw files show of the machine and not by what its results say. Pure.

An emulator shows itself in DMI (the kernel prints vendor and product), in the OEM id of the ACPI tables and in the ids
of the device. Somebody who wants to hide all of them can: this finds what was not hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.base.strict import StrictModel

Kind = Literal["hardware", "emulated", "unknown"]
_WORDS = 120

_DMI = re.compile(r"^(?:\[[ 0-9.]+\] )?DMI: (?!Memory slots)(.+)$", re.MULTILINE)
_ACPI = re.compile(r"ACPI: RSDP .{0,60}\((?:v|r)\w+ (.{6}) *\)")
_XEN = re.compile(r"^\(XEN\) (?:\[[^]]*\] )?Xen version (\S+) ", re.MULTILINE)
_BUILD = re.compile(r"^\(XEN\) (?:\[[^]]*\] )?build-id: ([0-9a-f]+)$", re.MULTILINE)
_OPTIONS = re.compile(
    r"^\(XEN\) (?:\[[^]]*\] )?Command line: (.{1,900})", re.MULTILINE
)  # Xen prints no more than 1,024
_DOM0_OPTIONS = re.compile(r"^(?:\[[ 0-9.]+\] )?Kernel command line: (.{1,900})", re.MULTILINE)
_CPU = re.compile(r"^\(XEN\) (?:\[[^]]*\] )?CPU Vendor: (.{1,200})$", re.MULTILINE)
_KERNEL = re.compile(r"^(?:\[[ 0-9.]+\] )?Linux version (\S+) ", re.MULTILINE)

_EMULATED = re.compile(
    r"QEMU|Bochs|Standard PC \(|KVM|VMware|VirtualBox|innotek|HVM domU|Virtual Machine|Parallels|OpenStack|Amazon EC2"
    r"|Google Compute|BHYVE|bhyve|Cloud Hypervisor|Nutanix AHV",
    re.IGNORECASE,
)
_EMULATED_ACPI = re.compile(r"BOCHS|VBOX|VMW|Xen|PRLS|BHYVE|AMAZON|Google|CLOUDH", re.IGNORECASE)
_QEMU_VENDORS = (0x1B36, 0x1234)
_NO_VENDORS = (0x0000, 0x0001, 0xFFFF)  # nobody answers; not yet, after a reset (PCIe 6.0, 2.3.2); gone, or a VF
_QEMU_SUBSYSTEM = (0x1AF4, 0x1100)  # what QEMU gives a device that has none of its own


class StoredFact(StrictModel):
    """What a raw file shows, and the line (0: bytes) that shows it."""

    path: str
    line: int
    shows: str


class Fidelity(StrictModel):
    kind: Kind
    facts: tuple[StoredFact, ...] = ()


@dataclass(frozen=True)
class Look:
    """The first reading of a side: the logs from their beginning, and the device's config space."""

    folder: str
    dom0_dmesg: str
    xl_dmesg: str
    config: str  # hexadecimal


@dataclass(frozen=True)
class MachineKind:
    """What one look shows of the machine; empty: it does not show it."""

    folder: str
    dmi: str
    acpi: str
    xen_version: str
    xen_build_id: str
    kernel: str
    xen_commandline: str = ""
    cpu: str = ""
    dom0_commandline: str = ""

    @property
    def shown(self) -> tuple[str, ...]:
        return self.dmi, self.acpi, self.xen_version, self.xen_build_id, self.kernel


def machine(look: Look) -> MachineKind:
    return MachineKind(
        look.folder,
        _first(_DMI, look.dom0_dmesg),
        _first(_ACPI, look.xl_dmesg),
        _first(_XEN, look.xl_dmesg),
        _first(_BUILD, look.xl_dmesg),
        _first(_KERNEL, look.dom0_dmesg),
        _first(_OPTIONS, look.xl_dmesg),
        _first(_CPU, look.xl_dmesg),
        _first(_DOM0_OPTIONS, look.dom0_dmesg),
    )


def fidelity(looks: Sequence[Look]) -> Fidelity:
    """Emulated when one sign of it is anywhere; hardware when every look names a machine and none has such a sign."""
    signs = [sign for look in looks for sign in _signs(look)]
    if signs:
        return Fidelity(kind="emulated", facts=_once(signs))
    named = [fact for look in looks if (fact := _named(look))]
    if looks and len(named) == len(looks):
        return Fidelity(kind="hardware", facts=_once(named))
    return Fidelity(kind="unknown", facts=_once(named))


def _signs(look: Look) -> Iterable[StoredFact]:
    fact = _named(look)
    if fact and _EMULATED.search(fact.shows):
        yield fact
    acpi = _ACPI.search(look.xl_dmesg)
    if acpi and _EMULATED_ACPI.search(acpi[1]):
        yield _fact(f"{look.folder}/xl_dmesg.txt", look.xl_dmesg, acpi)
    if device := _ids(look.config):
        yield StoredFact(path=f"{look.folder}/config.hex", line=0, shows=device)


def _named(look: Look) -> StoredFact | None:
    match = _DMI.search(look.dom0_dmesg)
    return _fact(f"{look.folder}/dom0_dmesg.txt", look.dom0_dmesg, match) if match else None


def device_ids(config: str) -> str:
    """Vendor, device, revision and subsystem as config space in hexadecimal has them; empty: no device answers."""
    data = _header(config)
    return "" if data is None or _numbers(data)[0] in _NO_VENDORS else _told(data)


def _told(data: bytes) -> str:
    vendor, device, sub_vendor, sub_device = _numbers(data)
    return f"{vendor:04x}:{device:04x} rev {data[8]:02x}, subsystem {sub_vendor:04x}:{sub_device:04x}"


def _header(config: str) -> bytes | None:
    try:
        data = bytes.fromhex(config.replace("\n", " "))[:0x30]
    except ValueError:
        return None
    return data if len(data) == 0x30 else None


def _numbers(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 2], "little") for at in (0x00, 0x02, 0x2C, 0x2E))


def _ids(config: str) -> str:
    """Ids that QEMU gives; empty: they are none of QEMU's."""
    data = _header(config)
    if data is not None and (_numbers(data)[0] in _QEMU_VENDORS or _numbers(data)[2:] == _QEMU_SUBSYSTEM):
        return f"device {_told(data)}: QEMU's"
    return ""


def _fact(path: str, text: str, match: re.Match[str]) -> StoredFact:
    line = text.count("\n", 0, match.start()) + 1
    return StoredFact(path=path, line=line, shows=match[0].strip()[:_WORDS])


def _once(facts: Iterable[StoredFact]) -> tuple[StoredFact, ...]:
    """The first of each that shows the same but for its time stamp."""
    return tuple({re.sub(r"^\[[ 0-9.]+\] ", "", one.shows): one for one in reversed(list(facts))}.values())[::-1]


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1].strip() if match else ""

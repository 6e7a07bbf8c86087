"""What `xl` prints: list, list -l, pci-list, pci-assignable-list, info. Standard output only. Pure.

An empty output of the two PCI lists means "none"; an error of xl goes to standard error and belongs to its caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.base.errors import ParseError
from harness.model.address import FUNCTION, Bdf


def _lines(text: str) -> list[tuple[int, str]]:
    """(number, line) of every line that is not blank."""
    return [(number, line.rstrip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


@dataclass(frozen=True)
class DomainRow:
    """One row of `xl list`.

    `state` are six letters: running, blocked, paused, shut down, why it did (r reboot, s suspend, c crash, w watchdog,
    S soft reset; Xen xl_list.c, shutdown_reason_letters), dying.
    """

    name: str
    domid: int
    memory_mib: int
    vcpus: int
    state: str
    seconds: float  # of CPU time
    line: int

    @property
    def zombie(self) -> bool:
        """Dead but not gone: xenstore has forgotten it, Xen still holds it (mappings, pirqs)."""
        return self.name == "(null)"

    @property
    def dying(self) -> bool:
        """Xen is taking the domain apart."""
        return "d" in self.state

    @property
    def paused(self) -> bool:
        """By the toolstack: a domain is created so, and let go once it has its devices."""
        return "p" in self.state

    @property
    def crashed(self) -> bool:
        """The guest crashed and is kept (on_crash=preserve)."""
        return "c" in self.state


_LIST_HEADER = re.compile(r"Name +ID +Mem +VCPUs\s+State\s+Time\(s\)(?:\s.*)?")
_LIST_ROW = re.compile(
    r"(\S.*?) +([0-9]{1,5}) +([0-9]{1,15}) +([0-9]{1,5}) +([r-][b-][p-][s-][-rscwS][d-]) +([0-9]{1,15}\.[0-9])(?: .*)?"
)


def parse_list(text: str, *, file: str = "<text>") -> tuple[DomainRow, ...]:
    """`xl list`, with or without `-v` (Xen xl_list.c, list_domains). Raises ParseError when dom0 is not in it.

    Accepted format: a header `Name ID Mem VCPUs State Time(s)`, then rows

        (null)                                       3     0     1     --p--d      12.4
    """
    lines = _lines(text)
    if not lines or not _LIST_HEADER.fullmatch(lines[0][1]):
        raise ParseError("no header", file=file, line=lines[0][0] if lines else 0, expected="Name ID Mem VCPUs ...")
    rows: list[DomainRow] = []
    for number, line in lines[1:]:
        match = _LIST_ROW.fullmatch(line)
        if match is None:
            raise ParseError(f"{line!r}", file=file, line=number, expected="name, domid, memory, vcpus, state, time")
        name, domid, memory, vcpus, state, seconds = match.groups()
        rows.append(DomainRow(name, int(domid), int(memory), int(vcpus), state, float(seconds), number))
    if not any(row.domid == 0 for row in rows):
        raise ParseError("dom0 is not in the list", file=file, expected="every domain, dom0 first")
    return tuple(rows)


@dataclass(frozen=True)
class DomainConfig:
    """One domain of `xl list -l`: `type` is "pv", "hvm" or "pvh"; `devices` are the PCI devices it was given."""

    domid: int
    name: str
    type: str
    devices: tuple[Bdf, ...]


def parse_list_long(text: str, *, file: str = "<text>") -> tuple[DomainConfig, ...]:
    """`xl list -l`: the configuration libxl keeps of each domain. Zombies have none and are left out by xl.

    Accepted format: a JSON list of `{"domid": N, "config": {"c_info": {"name": .., "type": ..}, "pcidevs": [..]}}`.
    libxl leaves out fields that are 0 (`libxl_device_pci_gen_json`): `{"bus": 4}` is 0000:04:00.0.
    """
    try:
        domains: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"not JSON: {error}", file=file, expected="the output of xl list -l") from error
    if not isinstance(domains, list):
        raise ParseError("not a JSON list", file=file, expected="a list of domains")
    return tuple(_domain_config(domain, file) for domain in domains)


def _domain_config(domain: object, file: str) -> DomainConfig:
    top = _object(domain, "a domain", file)
    config = _object(top.get("config"), "config", file)
    info = _object(config.get("c_info"), "c_info", file)
    name, kind, devices = info.get("name"), info.get("type"), config.get("pcidevs", [])
    if not isinstance(name, str) or not isinstance(kind, str) or not isinstance(devices, list):
        raise ParseError("c_info or pcidevs", file=file, expected="name and type as text, pcidevs as a list")
    domid = _number(top, "domid", 0x7FFF, file, required=True)
    return DomainConfig(domid, name, kind, tuple(_device(device, file) for device in devices))


def _device(device: object, file: str) -> Bdf:
    fields = _object(device, "pcidevs", file)
    limits = {"domain": 0xFFFFFFFF, "bus": 0xFF, "dev": 0x1F, "func": 7}
    return Bdf(*(_number(fields, name, limit, file) for name, limit in limits.items()))


def _object(value: object, what: str, file: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ParseError(f"{what} is {type(value).__name__}", file=file, expected=f"{what} as a JSON object")
    return value


def _number(fields: dict[str, object], name: str, limit: int, file: str, *, required: bool = False) -> int:
    value = fields.get(name, None if required else 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ParseError(f"{name} is {str(value)[:40]}", file=file, expected=f"{name} as a number up to {limit}")
    return value


@dataclass(frozen=True)
class PciListRow:
    """A device of a domain: `slot` is where the guest sees it ("03.0")."""

    slot: str
    device: Bdf
    line: int


_PCI_LIST_ROW = re.compile(rf"([0-9a-f]{{2}}\.[0-7]) ({FUNCTION})")


def parse_pci_list(text: str, *, file: str = "<text>") -> tuple[PciListRow, ...]:
    """`xl pci-list DOM` (Xen xl_pci.c, pcilist): the devices of a domain.

    Accepted format: nothing at all when it has none, else `Vdev Device` and rows as `03.0 0000:04:00.0`.
    """
    lines = _lines(text)
    if lines and lines[0][1] != "Vdev Device":
        raise ParseError(f"{lines[0][1]!r}", file=file, line=lines[0][0], expected="the header 'Vdev Device'")
    rows: list[PciListRow] = []
    for number, line in lines[1:]:
        match = _PCI_LIST_ROW.fullmatch(line)
        if match is None:
            raise ParseError(f"{line!r}", file=file, line=number, expected="a row as '03.0 0000:04:00.0'")
        rows.append(PciListRow(match.group(1), Bdf.parse(match.group(2)), number))
    return tuple(rows)


_ASSIGNABLE = re.compile(rf"({FUNCTION})(?: \S+)?")


def parse_assignable(text: str, *, file: str = "<text>") -> tuple[Bdf, ...]:
    """`xl pci-assignable-list`: devices bound to pciback that no domain owns.

    Accepted format: one BDF to a line, newer versions with a blank and perhaps a name behind it; nothing when none.
    """
    devices: list[Bdf] = []
    for number, line in _lines(text):
        match = _ASSIGNABLE.fullmatch(line)
        if match is None:
            raise ParseError(f"{line!r}", file=file, line=number, expected="a PCI address as 0000:04:00.0")
        devices.append(Bdf.parse(match.group(1)))
    return tuple(devices)


@dataclass(frozen=True)
class XlInfo:
    """What `xl info` says of a host. `release` is dom0's kernel, `build_id` identifies the hypervisor's binary.

    The numbers are None where it does not print them.
    """

    xen_version: str
    virt_caps: frozenset[str]
    commandline: str
    build_id: str
    release: str
    total_memory_mib: int | None = None
    outstanding_claims: int | None = None  # pages claimed for domains to come

    @property
    def facts(self) -> dict[str, str]:
        """What identifies a host in a result."""
        return {
            "xen_version": self.xen_version,
            "xen_build_id": self.build_id or "unknown",
            "xen_commandline": self.commandline,
            "kernel": self.release or "unknown",
        }


_INFO_ROW = re.compile(r"([a-z][a-z0-9_]*) *:(?: (.*))?")
_WORDS = ("xen_version", "virt_caps", "xen_commandline", "build_id", "release")
_NUMBERS = ("total_memory", "outstanding_claims")


def parse_info_fields(text: str, *, file: str = "<text>") -> dict[str, str]:
    """All of `xl info`, key by key (Xen xl_info.c). Raises ParseError for a line that is no `key : value`."""
    fields: dict[str, str] = {}
    for number, line in _lines(text):
        match = _INFO_ROW.fullmatch(line)
        if match is None:
            raise ParseError(f"{line!r}", file=file, line=number, expected="a line 'key : value'")
        fields[match.group(1)] = (match.group(2) or "").strip()
    return fields


def info_of(fields: Mapping[str, str], *, file: str = "<text>") -> XlInfo:
    """What is wanted of them. Raises ParseError for a missing word, and for a number that is none."""
    missing = set(_WORDS) - fields.keys()
    if missing or not fields["xen_version"]:
        raise ParseError(f"{', '.join(sorted(missing)) or 'xen_version'} missing", file=file, expected="xl info")
    numbers = {key: fields[key] for key in _NUMBERS if key in fields}
    for key, value in numbers.items():
        if not re.fullmatch("[0-9]{1,15}", value):
            raise ParseError(f"{key} is {value!r}", file=file, expected="a number")
    return XlInfo(
        xen_version=fields["xen_version"],
        virt_caps=frozenset(fields["virt_caps"].split()),
        commandline=fields["xen_commandline"],
        build_id=fields["build_id"],
        release=fields["release"],
        total_memory_mib=int(numbers["total_memory"]) if "total_memory" in numbers else None,
        outstanding_claims=int(numbers["outstanding_claims"]) if "outstanding_claims" in numbers else None,
    )


def parse_info(text: str, *, file: str = "<text>") -> XlInfo:
    """`xl info`. Raises ParseError as `parse_info_fields` and `info_of`."""
    return info_of(parse_info_fields(text, file=file), file=file)

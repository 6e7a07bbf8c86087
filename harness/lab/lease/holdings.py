"""What a run could leave behind on a host: read before and after, and compared. Parsing and comparing are pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import ParseError
from harness.transport.base import Transport
from harness.transport.sections import ask
from harness.xen.keys.debugkeys import parse_irqs
from harness.xen.keys.xl_output import parse_assignable, parse_list

_PROGRAM = Path(__file__).with_name("holdings.sh")
_OURS = re.compile(r"qemu-.*|xl|xenconsole|libxl-save-helper|xen-.*-agent")
_SECTIONS = ("boot_id", "domains", "assignable", "owners", "backends", "mounts", "interrupts", "processes", "irqs")
SECONDS = 30.0


@dataclass(frozen=True)
class Holdings:
    """Everything countable, as (kind, name) with how often it is there. Names carry no number that a run may change."""

    boot_id: str
    things: Mapping[tuple[str, str], int]

    @property
    def zombies(self) -> list[str]:
        """Domains that are dead and not gone."""
        return sorted(name for kind, name in self.things if kind == "domain" and name.startswith("zombie "))

    def leaks(self, before: Holdings) -> list[str]:
        """What is there more often than before, one line each, in words for a person. Empty: nothing was left behind.

        After a reboot the same holds: whatever the host starts by itself was there before.
        """
        return [
            f"{kind} {name}" + (f" ({count} instead of {before.things.get((kind, name), 0)})" if count > 1 else "")
            for (kind, name), count in sorted(self.things.items())
            if count > before.things.get((kind, name), 0)
        ]


def read(transport: Transport, deadline: Deadline) -> dict[str, bytes]:
    """The raw answer, by section. Changes nothing but the console ring: Xen prints debug key i into it."""
    return ask(transport, _PROGRAM, deadline=deadline)


def parse(sections: Mapping[str, bytes]) -> Holdings:
    """Accepted format: the sections of holdings.sh; those of Xen are empty on a host without it."""
    missing = [name for name in _SECTIONS if name not in sections]
    if missing:
        raise ParseError(f"no section {missing[0]}", file="holdings", expected=", ".join(_SECTIONS))
    text = {name: data.decode("utf-8", "replace") for name, data in sections.items()}
    return Holdings(text["boot_id"].strip(), Counter(_things(text)))


def _things(text: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if text["domains"].strip():
        for row in parse_list(text["domains"], file="domains"):
            yield "domain", f"zombie {row.domid}" if row.zombie else row.name
    if text["assignable"].strip():
        for device in parse_assignable(text["assignable"], file="assignable"):
            yield "device on pciback", str(device)
    for line in text["owners"].splitlines():
        match = re.match(r"/libxl/pci/(\S+)/domid ", line)
        if match:
            yield "libxl owner of device", match[1]
    for line in text["backends"].splitlines():
        match = re.match(r"/local/domain/0/backend/(\w+)/([1-9]\d*)/(\d+) ", line)
        if match:
            yield "xenstore backend", f"{match[1]} of domain {match[2]}"
    for line in text["mounts"].splitlines():
        words = line.split()
        if len(words) > 1:
            yield "mount", words[1]
    for line in text["interrupts"].splitlines():
        match = re.match(r" *\d+: (?: *\d+)+ +(\S+)(?: +\S*-\S*)? +(.*)", line)
        if match:
            yield "dom0 irq", f"{match[1]} {re.sub(r'[0-9]+', 'N', match[2])}".strip()
    for line in text["processes"].splitlines():
        name = line.partition(" ")[2]
        if _OURS.fullmatch(name):
            yield "process", name
    if "IRQ information:" in text["irqs"]:
        for irq in parse_irqs(text["irqs"], file="irqs"):
            if irq.unbound:
                yield "Xen irq", "mapped, unbound"
            for domain in irq.domains:
                if irq.is_msi:
                    yield "Xen irq", f"bound to {domain}"


def survey(transport: Transport) -> Holdings:
    """Read and parse in one."""
    return parse(read(transport, Deadline.after(SECONDS)))

"""What a run could leave behind on a host: read before and after, and compared. Parsing and comparing are pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import ParseError
from harness.model.address import FUNCTION
from harness.transport.base import Transport
from harness.transport.sections import ask
from harness.xen.keys.debugkeys import parse_irqs
from harness.xen.keys.xl_output import parse_assignable, parse_list

_PROGRAM = Path(__file__).with_name("holdings.sh")
_SECTIONS = (
    *("boot_id", "domains", "assignable", "owners", "backends", "mounts", "interrupts", "processes", "domids", "irqs"),
)
_RUN = "/run/maskall"
_INTERRUPT = re.compile(r" *[0-9]+:(?: +[0-9]+)+ +(\S+)(?: +[^\s-]*-\S*)? +(.*)")
SECONDS = 30.0


@dataclass(frozen=True)
class Leftover:
    """Something countable. Its name carries no number that a run may change; `ties` do: addresses, domains (`d5` and
    names), paths that it belongs to."""

    kind: str
    name: str
    ties: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Ours:
    """What a run may leave behind: devices by address, domains by name and by number."""

    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    domids: frozenset[int] = frozenset()

    @property
    def ties(self) -> frozenset[str]:
        return self.addresses | self.domains | {f"d{domid}" for domid in self.domids} | {_RUN}


@dataclass(frozen=True)
class Leftovers:
    """Everything countable, with how often it is there. `domids`: of our domains, as noted on the host."""

    boot_id: str
    things: Mapping[Leftover, int]
    domids: frozenset[int] = frozenset()

    @property
    def zombies(self) -> list[str]:
        """Domains that are dead and not gone."""
        return sorted(one.name for one in self.things if str(one).startswith("domain zombie "))

    def more_than(self, before: Leftovers, ours: Ours) -> tuple[list[str], list[str]]:
        """What is there more often than before, one line each, in words for a person: what is tied to us, and the rest.

        The rest is other people's business: a login mounts a file system, somebody starts a guest. After a reboot the
        same holds: whatever the host starts by itself was there before.
        """
        mine, others = list[str](), list[str]()
        ties = ours.ties - self._given_away(ours)
        for thing, count in sorted(self.things.items(), key=lambda pair: str(pair[0])):
            was = before.things.get(thing, 0)
            if count > was:
                told = f"{thing}" + (f" ({count} instead of {was})" if count > 1 else "")
                (mine if thing.ties & ties else others).append(told)
        return mine, others

    def _given_away(self, ours: Ours) -> set[str]:
        """The numbers of domains that live under other names: Xen gives one away again."""
        named = (one for one in self.things if one.kind == "domain" and not one.name.startswith("zombie "))
        return {tie for one in named if one.name not in ours.domains for tie in one.ties}


def read(transport: Transport, deadline: Deadline) -> dict[str, bytes]:
    """The raw answer, by section. Changes nothing but the console ring: Xen prints debug key i into it."""
    return ask(transport, _PROGRAM, deadline=deadline)


def parse(sections: Mapping[str, bytes]) -> Leftovers:
    """Accepted format: the sections of holdings.sh; those of Xen are empty on a host without it."""
    missing = [name for name in _SECTIONS if name not in sections]
    if missing:
        raise ParseError(f"no section {missing[0]}", file="holdings", expected=", ".join(_SECTIONS))
    text = {name: data.decode("utf-8", "replace") for name, data in sections.items()}
    domids = frozenset(int(word) for word in text["domids"].split() if re.fullmatch(r"[0-9]{1,5}", word))
    return Leftovers(text["boot_id"].strip(), Counter(_things(text)), domids)


def _things(text: Mapping[str, str]) -> Iterator[Leftover]:
    if text["domains"].strip():
        for row in parse_list(text["domains"], file="domains"):
            name = f"zombie {row.domid}" if row.zombie else row.name
            yield Leftover("domain", name, frozenset({name, f"d{row.domid}"}))
    if text["assignable"].strip():
        for device in parse_assignable(text["assignable"], file="assignable"):
            yield Leftover("device on pciback", str(device), frozenset({str(device)}))
    for line in text["owners"].splitlines():
        match = re.match(r'/libxl/pci/(\S+)/domid = "(\d*)"', line)
        if match:
            address = re.sub(r"^(\w+)-(\w+)-(\w+)-(\w)$", r"\1:\2:\3.\4", match[1])
            yield Leftover("libxl owner of device", match[1], frozenset({address, f"d{match[2]}"}))
    for line in text["backends"].splitlines():
        match = re.match(r"/local/domain/0/backend/(\w+)/([1-9]\d*)/(\d+) ", line)
        if match:
            yield Leftover("xenstore backend", f"{match[1]} of domain {match[2]}", frozenset({f"d{match[2]}"}))
    for place in re.findall(r"^\S+ (\S+) ", text["mounts"], re.MULTILINE):
        yield Leftover("mount", place, _paths(place))
    for line in text["interrupts"].splitlines():
        match = _INTERRUPT.match(line)
        if match:
            addresses = frozenset(re.findall(FUNCTION, match[2]))
            yield Leftover("dom0 irq", f"{match[1]} {re.sub(r'[0-9]+', 'N', match[2])}".strip(), addresses)
    for line in text["processes"].splitlines():
        name, _, command = line.partition(" ")[2].partition(" ")
        if name:
            yield Leftover("process", name, _served(command))
    if "IRQ information:" in text["irqs"]:
        for irq in parse_irqs(text["irqs"], file="irqs"):
            if irq.unbound:
                yield Leftover("Xen irq", "mapped, unbound")
            for domain in irq.domains:
                if irq.is_msi:
                    yield Leftover("Xen irq", f"bound to {domain}", frozenset({domain}))


def _served(command: str) -> frozenset[str]:
    """The domains and paths that a command line names: qemu's `-xen-domid 5 -name maskall-a`, `xl create PATH`."""
    numbers = re.findall(r"(?:-xen-domid|-domid|xenconsole) +(?:--\S+ +){0,9}(\d{1,5})\b", command)
    return frozenset(re.findall(r"\bmaskall-[a-z0-9-]+", command)) | {f"d{one}" for one in numbers} | _paths(command)


def _paths(text: str) -> frozenset[str]:
    return frozenset({_RUN} if re.search(rf"(?:^|[ =]){_RUN}(?:/|$)", text) else ())


def survey(transport: Transport) -> Leftovers:
    """Read and parse in one."""
    return parse(read(transport, Deadline.after(SECONDS)))

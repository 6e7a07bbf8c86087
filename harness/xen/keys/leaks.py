"""What a dead domain can leave behind on a host, counted; and whether it grew from round to round. Pure."""

from __future__ import annotations

import itertools
import re
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from harness.base.errors import ParseError
from harness.model.address import Bdf
from harness.xen.keys.debugkeys import parse_irqs, parse_pci_devices
from harness.xen.keys.domainkeys import parse_domains, parse_event_channels, parse_free_memory
from harness.xen.keys.interrupts import parse_interrupts
from harness.xen.keys.xl_output import parse_info, parse_list

WARM_UP = 1  # rounds whose growth is not judged: first use fills caches, sets up GSIs, makes xenstore's directories
FEWEST_ROUNDS = WARM_UP + 2


@dataclass(frozen=True)
class Counter:
    """Something countable; `noise` is how much it may grow over a run without being a leak."""

    name: str
    title: str
    noise: int = 0


# Seen on Xen 4.20 after the first round, with nothing else growing: 8 KiB more in five rounds with nvme, none after the
# third; 16 KiB more in five rounds with virtio-rng. A page lost in every one of twenty rounds is 52 KiB between the
# thirds that `growth` compares.
_HEAP_NOISE_KIB = 32

COUNTERS = (
    Counter("device_irqs", "irqs of the device (key Q)"),
    Counter("msi_irqs", "PCI-MSI irqs in Xen (key i)"),
    Counter("unbound_irqs", "PCI-MSI irqs mapped, unbound (key i)"),
    Counter("foreign_irqs", "PCI-MSI irqs bound to other domains than dom0 (key i)"),
    Counter("dom0_irqs", "irqs dom0 may use, its pirqs (key q)"),
    Counter("domain_irqs", "irqs other domains may use, their pirqs (key q)"),
    Counter("dom0_event_channels", "event channels of dom0 (key e)"),
    Counter("event_channels", "event channels of all domains (key e)"),
    Counter("domains", "domains of the toolstack (xl list)"),
    Counter("dead_domains", "dead or dying domains in Xen (key q)"),
    Counter("dead_pages", "pages of dead or dying domains (key q)"),
    Counter("xen_memory_kib", "memory taken from Xen's heap, KiB (key m)", noise=_HEAP_NOISE_KIB),
    Counter("claimed_pages", "pages claimed for domains to come (xl info)"),
    Counter("xenstore", "xenstore nodes"),
    Counter("xenstore_dom0", "xenstore nodes below /local/domain/0"),
    Counter("xenstore_domains", "xenstore nodes below /local/domain of others"),
    Counter("xenstore_libxl", "xenstore nodes below /libxl"),
    Counter("xenstore_vm", "xenstore nodes below /vm"),
    Counter("irq_descriptors", "irq descriptors of dom0's kernel"),
    Counter("interrupt_rows", "rows of dom0's /proc/interrupts"),
    Counter("device_models", "qemu processes in dom0"),
    Counter("toolstack_processes", "xl processes in dom0"),
    Counter("pciback_slots", "devices bound to pciback"),
)


def count(files: Mapping[str, bytes], device: Bdf) -> dict[str, int]:
    """The counters by name, from what harness/evidence/counts.sh printed. ParseError when a file cannot be read."""
    text = {name: data.decode("utf-8", "replace") for name, data in files.items()}
    keys, listed = text["xl_dmesg.txt"], text["xl_list.txt"]
    msi = [row for row in parse_irqs(keys, file="xl_dmesg.txt") if row.is_msi]
    of_device = [row.irqs for row in parse_pci_devices(keys, file="xl_dmesg.txt") if row.device == device]
    channels = parse_event_channels(keys, file="xl_dmesg.txt")
    held = parse_domains(keys, file="xl_dmesg.txt")
    dead = [domain for domain in held if domain.dying]
    info = parse_info(text["xl_info.txt"], file="xl_info.txt")
    if info.total_memory_mib is None or info.outstanding_claims is None:
        raise ParseError("no total_memory or outstanding_claims", file="xl_info.txt", expected="both, as numbers")
    programs = _programs(text["processes.txt"])
    counts = {
        "device_irqs": sum(map(len, of_device)),
        "msi_irqs": len(msi),
        "unbound_irqs": sum(row.unbound for row in msi),
        "foreign_irqs": sum(any(name != "d0" for name in row.domains) for row in msi),
        "dom0_irqs": sum(domain.irqs for domain in held if domain.domid == 0),
        "domain_irqs": sum(domain.irqs for domain in held if domain.domid != 0),
        "dom0_event_channels": sum(channel.domid == 0 for channel in channels),
        "event_channels": len(channels),
        "domains": len(parse_list(listed, file="xl_list.txt")),
        "dead_domains": len(dead),
        "dead_pages": sum(domain.pages for domain in dead),
        "xen_memory_kib": info.total_memory_mib * 1024 - parse_free_memory(keys, file="xl_dmesg.txt"),
        "claimed_pages": info.outstanding_claims,
        "irq_descriptors": len(text["irq_desc.txt"].splitlines()),
        "interrupt_rows": len(parse_interrupts(text["interrupts.txt"], file="interrupts.txt").by_irq),
        "device_models": sum(number for name, number in programs.items() if "qemu" in name),
        "toolstack_processes": programs["xl"],
        "pciback_slots": len(text["pciback_slots.txt"].split()),
        **_nodes(text["xenstore.txt"]),
    }
    return {counter.name: counts[counter.name] for counter in COUNTERS}


_PLACES = {
    "xenstore_dom0": re.compile(r"/local/domain/0[/ ]"),
    "xenstore_domains": re.compile(r"/local/domain/[1-9]"),
    "xenstore_libxl": re.compile(r"/libxl[/ ]"),
    "xenstore_vm": re.compile(r"/vm[/ ]"),
}


def _nodes(text: str) -> dict[str, int]:
    """`xenstore-ls -f`: one node to a line, `/path = "value"`; a value has no line feed (it is printed escaped)."""
    nodes = [line for line in text.splitlines() if line]
    if not nodes or not all(line.startswith("/") and " = " in line for line in nodes):
        raise ParseError("a line that is no node", file="xenstore.txt", expected='lines as /path = "value"')
    return {"xenstore": len(nodes), **{name: sum(map(bool, map(at.match, nodes))) for name, at in _PLACES.items()}}


def _programs(text: str) -> Tally[str]:
    """`ps -e -o pid= -o stat= -o comm= -o args=`: how many processes of each name."""
    rows = [line.split(None, 3) for line in text.splitlines() if line.strip()]
    if not rows or any(len(row) < 3 or not row[0].isdecimal() for row in rows):
        raise ParseError("a line that is no process", file="processes.txt", expected="pid, state, name, command")
    return Tally(row[2] for row in rows)


@dataclass(frozen=True)
class Growth:
    """How one counter went: from `first` to `last`, `rises` of `steps` rounds with more than the round before."""

    counter: Counter
    first: int
    last: int
    rises: int
    steps: int

    @property
    def grown(self) -> int:
        return self.last - self.first

    @property
    def leaked(self) -> bool:
        return self.grown > self.counter.noise

    def __str__(self) -> str:
        if self.grown <= 0:
            return f"{self.first} -> {self.last}"
        return f"{self.first} -> {self.last}, more in {self.rises} of {self.steps} rounds"


def growth(readings: Sequence[Mapping[str, int]]) -> tuple[Growth, ...]:
    """Each counter over the readings, one taken after each round with no guest alive. Empty for fewer than three.

    After the warm-up the median of the first third of the rounds is held against that of the last third: one reading
    that caught something in passing does not move a median, and what is never given back moves it, be it something in
    every round or once for all. Growth beyond the counter's noise is a leak.
    """
    if len(readings) < FEWEST_ROUNDS:
        return ()
    judged = readings[WARM_UP:]
    third = max(1, len(judged) // 3)
    found = []
    for counter in COUNTERS:
        values = [reading[counter.name] for reading in judged]
        rises = sum(after > before for before, after in itertools.pairwise(values))
        found.append(Growth(counter, median_low(values[:third]), median_low(values[-third:]), rises, len(values) - 1))
    return tuple(found)

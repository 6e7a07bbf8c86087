"""What a dead domain can leave behind on a host, counted; and whether it grew from round to round. Pure."""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Mapping

from harness.base.errors import ParseError
from harness.model.address import Bdf
from harness.xen.keys.debugkeys import parse_irqs, parse_pci_devices
from harness.xen.keys.domainkeys import parse_domains, parse_event_channels, parse_free_memory
from harness.xen.keys.interrupts import parse_interrupts
from harness.xen.keys.xl_output import parse_info, parse_list


def count(files: Mapping[str, bytes], device: Bdf) -> dict[str, int]:
    """The counters by name, from what harness/evidence/counts.sh printed. ParseError when a file cannot be read."""
    text = {name: data.decode("utf-8", "replace") for name, data in files.items()}
    log = "xl_dmesg.txt"
    keys, listed = text[log], text["xl_list.txt"]
    msi = [row for row in parse_irqs(keys, file=log) if row.is_msi]
    of_device = [row.irqs for row in parse_pci_devices(keys, file=log) if row.device == device]
    channels = parse_event_channels(keys, file=log)
    held = parse_domains(keys, file=log)
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
        "xen_memory_kib": info.total_memory_mib * 1024 - parse_free_memory(keys, file=log),
        "claimed_pages": info.outstanding_claims,
        "irq_descriptors": len(text["irq_desc.txt"].splitlines()),
        "interrupt_rows": len(parse_interrupts(text["interrupts.txt"], file="interrupts.txt").by_irq),
        "device_models": sum(number for name, number in programs.items() if "qemu" in name),
        "toolstack_processes": programs["xl"],
        "pciback_slots": len(text["pciback_slots.txt"].split()),
        **_nodes(text["xenstore.txt"]),
    }
    return counts


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
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if not rows or any(len(row) < 3 or not row[0].isdecimal() for row in rows):
        raise ParseError("a line that is no process", file="processes.txt", expected="pid, state, name, command")
    return Tally(row[2] for row in rows)

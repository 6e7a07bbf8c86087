"""Can this host be used at all: what is there, what is missing, and how to mend it. Pure."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.base.errors import LabError, ParseError
from harness.base.text import whole
from harness.lab.inventory.models import LabEntry
from harness.lab.lease.holder import Claimed
from harness.lab.safety.facts.facts import HostFacts

_TOOLS = {
    "xl": "apt-get install xen-utils-common, or: maskall provision",
    "setpci": "apt-get install pciutils",
    "lspci": "apt-get install pciutils",
    "xenstore-read": "apt-get install xenstore-utils",
}
"""Programs a run calls in dom0, and how they get there on a Debian."""


@dataclass(frozen=True)
class HostFinding:
    """One question about the host. `mend` says what to do when the answer is not good."""

    name: str
    good: bool
    seen: str
    mend: str = ""


def examine(entry: LabEntry, facts: HostFacts, claim: Claimed | None, quarantine: str) -> list[HostFinding]:
    """Every question, in the order in which they are mended."""
    return list(_findings(entry, facts, claim, quarantine))


def refuse_unfit(name: str, findings: list[HostFinding]) -> None:
    """Nothing is borrowed from a host that lacks something. LabError with the first that it lacks."""
    bad = [one for one in findings if not one.good]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise LabError(f"{name} is not ready: {bad[0].name}: {bad[0].seen}{more}", hint=bad[0].mend or "maskall doctor")


def _findings(entry: LabEntry, facts: HostFacts, claim: Claimed | None, quarantine: str) -> Iterator[HostFinding]:
    yield HostFinding(
        "system", True, f"{facts.os_name or 'unknown system'}, Linux {facts.kernel}{_manager(facts.os_name)}"
    )
    yield HostFinding("quarantine", not quarantine, quarantine or "none", "maskall restore")
    held = claim is not None
    mend = "ask them, --wait SECONDS, or --take-over REASON"
    yield HostFinding("claim", not held, f"used by {claim.told}" if claim else "free", mend)
    left = any(line.text.split()[-1].rpartition("/")[2] == "journal.jsonl" for line in facts.lines("run"))
    told = "a run has left its changes undone, or is at work" if left else "nothing is left of an earlier run"
    yield HostFinding("journal", not left or held, told, "maskall restore, or the next run of the same owner")
    yield from _xen(facts)
    yield from _programs(facts)
    yield from _permissions(entry)


def _xen(facts: HostFacts) -> Iterator[HostFinding]:
    if facts.xen_version is None:
        yield HostFinding("Xen", False, "this is not a Xen dom0", "maskall provision (Debian, Ubuntu)")
        return
    yield HostFinding("Xen", True, facts.xen_version)
    caps = facts.virt_caps or frozenset()
    seen = ", ".join(sorted(caps)) or "unknown"
    mend = "switch on virtualisation and the IOMMU in the firmware; Xen's option iommu=1"
    yield HostFinding("IOMMU", {"hvm", "hvm_directio"} <= caps, seen, mend)
    told = dict(line.text.partition(":")[::2] for line in facts.lines("xen"))
    fields = {key.strip(): value.strip() for key, value in told.items()}
    if "xen_commandline" in fields:
        dom0 = " ".join(line.text for line in facts.lines("cmdline"))
        yield HostFinding("log rings", True, _rings(fields["xen_commandline"], fields.get("nr_cpus", ""), dom0))
        yield HostFinding("vectors", True, _vectors(fields["xen_commandline"], facts))


def _manager(system: str) -> str:
    """Who else makes domains there."""
    if system.startswith(("XCP-ng", "XenServer", "Citrix Hypervisor")):
        return (
            "; xapi takes domains and devices for its own here: play on a host of no pool, with its toolstack stopped "
            "and the device hidden at boot, and set Xen's options with /opt/xensource/libexec/xen-cmdline"
        )
    if system.startswith("Qubes"):
        return "; qubesd makes the domains here through libvirt: shut every qube down that may want the device"
    return ""


_KEYS_PER_CPU = 5 << 10  # bytes that keys M, Q and i print: 39 KiB with 8 processors and 100 vectors
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}


def _rings(commandline: str, cpus: str, dom0: str) -> str:
    """Whether Xen's ring holds what a run makes it say: four times a dump of the debug keys, 1 MiB at least.

    No question: a smaller one loses lines, and what rests on them is UNDECIDED. `dom0`: the command line of its kernel.
    """
    wanted = 1 << 20
    while wanted < 4 * _KEYS_PER_CPU * (whole(cpus[:9]) or 8):
        wanted *= 2
    told = [_ring("conring_size", commandline, wanted, "Xen's default may not hold one dump of the debug keys")]
    told.append(_ring("log_buf_len", dom0, 1 << 20, "the kernel's default may be 128 KiB"))
    if not re.search(r"(?:^|\s)guest_loglvl=(?:all|debug|info|warning)(?=[\s/]|$)", commandline):
        told.append("of many warnings about guests Xen leaves some out: boot with guest_loglvl=info")
    return "; ".join(told)


def _ring(option: str, commandline: str, wanted: int, default: str) -> str:
    ask = f"boot with {option}={wanted >> 20}M"
    found = re.search(rf"(?:^|\s){option}=([0-9]{{1,9}})([kKmMgG]?)(?=\s|$)", commandline)
    if found is None:
        return f"{option} is not set, and {default}: {ask}"
    size = int(found[1]) << _UNITS[found[2].lower()]
    shown = f"{option}={found[1]}{found[2]}"
    return shown if size >= wanted else f"{shown} loses lines: {ask}"


_EXTRA_IRQS = 32  # Xen's extra_guest_irqs for a domU, from 4.14 to 4.20 (docs/misc/xen-command-line)


def _vectors(commandline: str, facts: HostFacts) -> str:
    """How many vectors a guest may have, and which functions have more in their tables."""
    found = re.search(r"(?:^|\s)extra_guest_irqs=([0-9]{1,6})", commandline)
    budget = int(found[1]) if found else _EXTRA_IRQS
    larger = []
    for function in facts.functions.values():
        with contextlib.suppress(ParseError):  # what cannot be read has no known table
            capability = function.config.msix if function.config is not None else None
            if capability is not None and capability.control.table_size > budget:
                larger.append(f"{function.bdf} ({capability.control.table_size})")
    told = f"extra_guest_irqs={budget}{'' if found else ', the default'}: a guest has no more MSI-X vectors than that"
    if not larger:
        return told
    more = f" and {len(larger) - 3} more" if len(larger) > 3 else ""
    return (
        f"{told}; larger tables: {', '.join(larger[:3])}{more}; err -28 at map or enable is this limit, -22 a refusal"
    )


def _programs(facts: HostFacts) -> Iterator[HostFinding]:
    lacking = {tool: mend for tool, mend in _TOOLS.items() if tool not in facts.tools}
    for tool, mend in lacking.items():
        yield HostFinding("programs", False, f"{tool} is missing", mend)
    if not lacking:
        yield HostFinding("programs", True, ", ".join(_TOOLS))
    seen = facts.busybox[0] if facts.busybox else "no static busybox: guests are made of it"
    yield HostFinding("busybox", bool(facts.busybox), seen, "apt-get install busybox-static")


def _permissions(entry: LabEntry) -> Iterator[HostFinding]:
    """No question, but what the ladder can do when something goes wrong."""
    allowed = [word for word, given in (("reboot", entry.allow_reboot), ("persist", entry.allow_persistent)) if given]
    power = f"power by {entry.power.kind}" if entry.power else "no power control"
    console = f"console by {entry.console.kind}" if entry.console else "no console"
    yield HostFinding("allowed", True, f"{', '.join(allowed) or 'volatile changes only'}; {power}; {console}")

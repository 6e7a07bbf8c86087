"""Does somebody else use it already? Pure."""

from __future__ import annotations

from harness.lab.safety.checks.finding import Context, Finding, Level
from harness.lab.safety.facts.facts import Function, HostFacts, Line

_PASSING = {"pciback", "xen-pciback", "vfio-pci", "pci-stub", "uio_pci_generic", "igb_uio"}


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """DENY: a domain has it, it waits for one and not for us, or its virtual functions are in use."""
    gone = facts.missing("drivers", "owners", "backends")
    if gone:
        return Finding("owner", Level.DENY, "unknown: who owns it cannot be read", (gone,))
    if function.numvfs:
        lines = tuple(line for line in function.lines if " sriov_numvfs " in line.text)
        return Finding("owner", Level.DENY, "its virtual functions are enabled", lines)
    if function.bdf in context.ours:
        return Finding("owner", Level.OK, "our own journal answers for it")
    owners = tuple(_owners(function, facts))
    if owners:
        return Finding("owner", Level.DENY, "a domain owns it", owners)
    if function.driver in _PASSING:
        line = Line("drivers", 0, f"{function.bdf} {function.driver}")
        return Finding("owner", Level.DENY, f"somebody else bound it to {function.driver}", (line,))
    return Finding("owner", Level.OK, f"bound to {function.driver or 'no driver'}")


def _owners(function: Function, facts: HostFacts) -> list[Line]:
    """libxl writes /libxl/pci/0000-04-00-0/domid; the backend keeps `dev-0 = "0000:04:00.0"`."""
    key = str(function.bdf).replace(":", "-").replace(".", "-")
    found = [line for line in facts.lines("owners") if f"/{key}/" in line.text]
    found += [
        line for line in facts.lines("backends") if "/backend/pci/" in line.text and f'"{function.bdf}"' in line.text
    ]
    return found

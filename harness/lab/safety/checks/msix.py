"""Is its MSI-X capability there and unmasked? Pure."""

from __future__ import annotations

from harness.lab.safety.checks.finding import Context, Finding, Level
from harness.lab.safety.facts.facts import Function, HostFacts, Line


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """DENY: no answer, no MSI-X, or MASKALL set before anything was done."""
    config = function.config
    if config is None:
        return Finding("msix", Level.DENY, "unknown: its config space cannot be read", function.lines[:1])
    if config.gone:
        return Finding("msix", Level.DENY, "it does not answer: its config space reads as all ones")
    capability = config.msix
    if capability is None:
        return Finding("msix", Level.DENY, "it has no MSI-X")
    if capability.control.masked:
        line = Line("config", 0, f"{function.bdf} MSI-X control {capability.control.value:04x}")
        return Finding("msix", Level.DENY, "MASKALL is set already", (line,))
    return Finding("msix", Level.OK, f"MSI-X, {capability.control.table_size} vectors, {capability.control}")

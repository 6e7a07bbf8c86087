"""Is its MSI-X capability there and unmasked? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.facts.facts import FactLine, Function, HostFacts

_MASKED = (
    "MASKALL is set already: an earlier owner or the firmware left it, and a reset that works clears it. To have that "
    "done: maskall doctor HOST --try-reset DEVICE --accept 'msix=it is masked already'"
)


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """DENY: no answer, no MSI-X, or MASKALL set before anything was done. What our guests left in it is ours."""
    if context.holds(function):
        return
    config = function.config
    if config is None:
        yield Finding("msix", Level.DENY, "unknown: its config space cannot be read", function.where)
    elif config.gone:
        yield Finding("msix", Level.DENY, "it does not answer: its config space reads as all ones")
    elif (capability := config.msix) is None:
        alone = "MSI alone, and MASKALL is a bit of MSI-X" if config.msi else "neither MSI-X nor MSI"
        yield Finding("msix", Level.DENY, f"it has {alone}: no scenario can show the defect on it")
    elif capability.control.masked:
        line = FactLine("config", 0, f"{function.bdf} MSI-X control {capability.control.value:04x}")
        yield Finding("msix", Level.DENY, _MASKED, (line,))
    else:
        yield Finding("msix", Level.OK, f"MSI-X, {capability.control.table_size} vectors, {capability.control}")

"""Can it be reset between two owners? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.facts.facts import Function, HostFacts


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """DENY: no reset method; WARN: the power state comes first, or the kernel (before 5.15) does not tell which."""
    methods = function.reset_methods
    evidence = tuple(line for line in function.lines if " reset" in line.text)
    if methods is None:
        yield Finding("reset", Level.WARN, "the kernel does not tell how it is reset", evidence)
    elif not methods:
        yield Finding("reset", Level.DENY, "it has no reset method", evidence or function.where)
    elif methods[0] == "pm":  # Linux ends at the first that says it worked (pci_reset_function); this may do nothing
        yield Finding("reset", Level.WARN, "its power state resets it, which may do nothing", evidence)
    else:
        yield Finding("reset", Level.OK, f"reset by {' '.join(methods)}")

"""Can Xen give devices to guests here? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.facts.facts import Function, HostFacts


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """DENY: no Xen, or Xen without an IOMMU (`virt_caps` of xl info lacks hvm_directio)."""
    gone = facts.missing("xen")
    if gone:
        yield Finding("iommu", Level.DENY, "unknown: Xen does not tell what it can", (gone,))
    elif not facts.lines("xen"):
        yield Finding("iommu", Level.DENY, "not a Xen host: maskall provision")
    elif "hvm_directio" not in (facts.virt_caps or ()):
        lines = tuple(line for line in facts.lines("xen") if line.text.startswith("virt_caps"))
        yield Finding("iommu", Level.DENY, "Xen has no IOMMU in use", lines)

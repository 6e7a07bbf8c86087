"""Can Xen give devices to guests here? Pure."""

from __future__ import annotations

from harness.lab.safety.checks.finding import Context, Finding, Level
from harness.lab.safety.facts.facts import Function, HostFacts


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """DENY: no Xen, or Xen without an IOMMU (`virt_caps` of xl info lacks hvm_directio)."""
    gone = facts.missing("xen")
    if gone:
        return Finding("iommu", Level.DENY, "unknown: Xen does not tell what it can", (gone,))
    if not facts.lines("xen"):
        return Finding("iommu", Level.DENY, "not a Xen host: maskall provision")
    if "hvm_directio" not in (facts.virt_caps or ()):
        lines = tuple(line for line in facts.lines("xen") if line.text.startswith("virt_caps"))
        return Finding("iommu", Level.DENY, "Xen has no IOMMU in use", lines)
    return Finding("iommu", Level.OK, "Xen has an IOMMU")

"""What else is moved, reset or isolated together with it? Pure."""

from __future__ import annotations

from harness.safety.facts import Function, HostFacts
from harness.safety.finding import Context, Finding, Level


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """DENY: another function of its slot, or below the bridge above it, has a driver and is not in the inventory.

    A bus reset hits all below one bridge. Without ACS they could also talk past the IOMMU; Xen shows no groups.
    """
    chain = function.chain
    if not chain:
        return Finding("siblings", Level.DENY, "unknown: its place", function.lines[:1])
    slot, above = chain[-1][:-2], chain[:-1]
    found = []
    for other in facts.functions.values():
        if other.bdf == function.bdf or other.bdf in context.lent or other.driver is None:
            continue
        code = other.class_code
        if code is not None and code >> 16 == 0x06 and other.chain[: len(chain)] != chain:
            continue  # a bridge beside or above it is not used by anybody itself
        shares_bridge = bool(above) and other.chain[: len(above)] == above
        shares_group = bool(function.iommu_group) and other.iommu_group == function.iommu_group
        if other.chain[-1][:-2] == slot or shares_bridge or shares_group:
            found.append(other)
    if found:
        words = ", ".join(f"{other.bdf} ({other.driver})" for other in found[:4])
        evidence = tuple(line for other in found[:3] for line in other.lines[:1])
        return Finding("siblings", Level.DENY, f"others share its slot or bridge: {words}", evidence)
    return Finding("siblings", Level.OK, "nothing in use shares its slot or bridge")

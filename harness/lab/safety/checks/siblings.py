"""What else is moved, reset or isolated together with it? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.base.errors import ParseError
from harness.lab.safety.checks import console, kind, network, owner, storage
from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.facts.extended import capabilities
from harness.lab.safety.facts.facts import PCI_PATH, Function, HostFacts, Thing
from harness.model.address import Bdf

_BRIDGES = {"0600", "0604"}  # to PCI; behind one to ISA is what sysfs does not show as PCI
_IDLE_BRIDGE = {None, "pcieport", "shpchp", "pciehp"}
_PCIE, _ACS = 0x10, 0x000D  # capability IDs, linux/pci_regs.h
_ROOT_PORT, _UPSTREAM, _DOWNSTREAM = 4, 5, 6  # PCIe capabilities register, bits 7:4
_ISOLATING = 0x1D  # source validation, request and completion redirect, upstream forwarding (REQ_ACS_FLAGS, iommu.c)


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """DENY: another function of its slot, or below a bridge it shares, is in use or is not in the inventory.

    A bus reset hits all below one bridge. Without ACS they could also talk past the IOMMU; Xen shows no groups. That
    nothing of dom0 drives a function says nothing: Xen drives its own serial card, and firmware the boot display.
    A virtual function that is reset by itself has neither slot nor bus of its own: there only ACS counts.
    """
    chain = function.chain
    slot = "" if _by_itself(function) else chain[-1][:-2]
    shared, joined = _shared(function, facts), _joined(chain, facts)
    found = []
    for other in facts.functions.values():
        if other.bdf == function.bdf:
            continue
        if other.kind in _BRIDGES and other.driver in _IDLE_BRIDGE:
            continue  # used by nobody itself, but by what is below it
        shares_bridge = bool(shared) and other.chain[: len(shared)] == shared
        shares_group = bool(function.iommu_group) and other.iommu_group == function.iommu_group
        if not (other.chain[-1][:-2] == slot or shares_bridge or shares_group or joined.intersection(other.chain)):
            continue
        if other.bdf not in context.lent or _used(other, facts, context):
            found.append(other)
    if found:
        words = ", ".join(f"{other.bdf} ({other.driver or 'no driver'})" for other in found[:4])
        evidence = tuple(line for other in found for line in other.where)
        yield Finding("siblings", Level.DENY, f"others share its slot or bridge: {words}", evidence)
    strange = [thing for thing in facts.strange if _near(thing, slot, shared, joined)]
    if strange:
        evidence = tuple(thing.lines[0] for thing in strange)
        yield Finding(
            "siblings", Level.DENY, "unknown: a function nobody can make out may share its slot or bridge", evidence
        )


def _near(thing: Thing, slot: str, shared: tuple[str, ...], joined: set[str]) -> bool:
    """Whether a function without a readable address or place could be a sibling. Its place counts where it has one."""
    chain = tuple(PCI_PATH.findall(thing.place))
    if chain:
        below = bool(shared) and chain[: len(shared)] == shared
        return chain[-1][:-2] == slot or below or bool(joined.intersection(chain))
    try:
        address = str(Bdf.parse(thing.name))
    except ParseError:
        return True
    return address.rpartition(":")[0] == slot.rpartition(":")[0]  # of one bus


def _used(other: Function, facts: HostFacts, context: Lending) -> bool:
    """Being in the inventory is no leave to reset what the machine lives on; what our journal answers for is idle.

    A doubt about its kind is no use of it.
    """
    uses = ((storage.check, Level.DENY), (network.check, Level.DENY), (console.check, Level.DENY),
            (owner.used, Level.DENY), (kind.check, Level.LETHAL))  # fmt: skip
    return not context.holds(other) and any(
        finding.level >= least for check, least in uses for finding in check(other, facts, context)
    )


def _joined(chain: tuple[str, ...], facts: HostFacts) -> set[str]:
    """On each step of the way the functions that nothing keeps apart from it, itself too: of its device, without ACS.

    A root port beside others, or a switch whose upstream port is a function beside SATA and USB (AMD's chipsets).
    Source: Linux get_pci_function_alias_group (drivers/iommu/iommu.c).
    """
    found = set[str]()
    for step in chain:
        alike = [one for one in facts.functions.values() if one.chain[-1][:-2] == step[:-2] and not one.physfn]
        joined = {str(one.bdf) for one in alike if not _port(one)[1]}
        if step in joined and len(joined) > 1:
            found |= joined
    return found


def _by_itself(function: Function) -> bool:
    """A virtual function that Linux resets by its own register alone."""
    return bool(function.physfn) and set(function.reset_methods or ("bus",)) <= {"flr", "af_flr"}


def _shared(function: Function, facts: HostFacts) -> tuple[str, ...]:
    """The way to the highest bridge below which nothing is kept apart; empty on a root bus.

    Below its own port everything is reset with it. A switch whose downstream port lacks ACS, and a bridge to
    conventional PCI, join all that is below them.
    """
    chain = function.chain
    shared = () if _by_itself(function) and _isolating(chain, facts) else chain[:-1]
    for depth in range(len(chain) - 1, 0, -1):
        port, isolating = _port(facts.functions.get(Bdf.parse(chain[depth - 1])))
        if port == _DOWNSTREAM and not isolating:
            shared = chain[: max(depth - 1, 1)]
        elif port not in (_ROOT_PORT, _UPSTREAM, _DOWNSTREAM):
            shared = chain[:depth]
    return shared


def _isolating(chain: tuple[str, ...], facts: HostFacts) -> bool:
    """Whether the port above keeps what is below it apart."""
    return len(chain) > 1 and _port(facts.functions.get(Bdf.parse(chain[-2])))[1]


def _port(bridge: Function | None) -> tuple[int | None, bool]:
    """Kind of PCIe port, None for a bridge to conventional PCI or an unknown one; and whether its ACS is on."""
    if bridge is None or bridge.config is None:
        return None, False
    try:
        offsets = [offset for identity, offset in bridge.config.capabilities() if identity == _PCIE]
    except ParseError:
        return None, False
    if not offsets:
        return None, False
    control = next((int.from_bytes(acs[6:8], "little") for acs in capabilities(bridge.config, _ACS)), 0)
    return bridge.config.data[offsets[0] + 2] >> 4, control & _ISOLATING == _ISOLATING

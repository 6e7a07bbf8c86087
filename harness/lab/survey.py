"""One reading of a host and what follows from it for each device that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from harness.base.deadline import Deadline
from harness.base.errors import SafetyRefusal
from harness.lab.inventory.models import DeviceEntry
from harness.lab.lease.lease import Lease
from harness.lab.safety.facts.collect import read_facts, still
from harness.lab.safety.facts.facts import HostFacts
from harness.lab.safety.facts.parse import parse_facts
from harness.lab.safety.facts.resolve import resolve
from harness.lab.safety.facts.stored import kept
from harness.lab.safety.gate import Decision, decide, explain, refuse_unknown
from harness.model.address import Bdf

_SECONDS = 120.0


@dataclass(frozen=True)
class Survey:
    """What was read is stored before it is parsed."""

    facts: HostFacts
    decisions: Mapping[str, Decision]
    accepted: Mapping[str, str]
    still: str = ""
    """A program for sh that ends its shell unless the host is as it was when it was read; empty for stored facts."""
    seconds: float = 0.0
    """How long reading took, as long as the shell that binds will need to read them again."""

    @classmethod
    def take(cls, visit: Lease, devices: Mapping[str, DeviceEntry], accepted: Mapping[str, str]) -> Survey:
        """Read the host once and decide about each device. Changes nothing there."""
        refuse_unknown(accepted)
        deadline = Deadline.after(_SECONDS)
        sections = read_facts(visit.transport, deadline)
        took = _took(deadline)
        visit.state.keep("facts.txt", kept(sections))
        taken = cls.of(parse_facts(sections), devices, accepted, visit.ours, visit.addresses)
        taken = replace(taken, still=still(sections), seconds=took)
        for name, entry in devices.items():
            address = taken.decisions[name].bdf
            if address is not None:
                visit.addresses[entry.identity.mark] = address
        return taken

    @classmethod
    def of(
        cls,
        facts: HostFacts,
        devices: Mapping[str, DeviceEntry],
        accepted: Mapping[str, str],
        ours: frozenset[Bdf] = frozenset(),
        known: Mapping[tuple[str, ...], Bdf] = MappingProxyType({}),
    ) -> Survey:
        """What follows from facts in hand. `ours`: devices our open journal answers for; `known`: where they are."""
        lent = frozenset(found for entry in devices.values() if (found := _found(facts, entry, known)) is not None)
        decisions = {
            name: decide(name, entry, facts, ours=ours, lent=lent, known=known) for name, entry in devices.items()
        }
        return cls(facts, decisions, accepted)

    def refuse(self, device: Bdf) -> None:
        """SafetyRefusal unless the function at this address is one of the devices and may be touched."""
        name = next((name for name, one in self.decisions.items() if one.bdf == device), None)
        if name is None:
            raise SafetyRefusal(f"{device} is no longer one of {', '.join(self.decisions)}", hint="see maskall doctor")
        self.address(name)

    def address(self, name: str) -> Bdf:
        """Where the device is. SafetyRefusal with every reason when it may not be touched."""
        decision = self.decisions[name]
        if not decision.allowed(self.accepted) or decision.bdf is None:
            raise SafetyRefusal(
                f"{name} is not touched: {'; '.join(explain(decision, self.accepted))}", hint="see maskall doctor"
            )
        return decision.bdf


def _took(deadline: Deadline) -> float:
    return _SECONDS - deadline.remaining


def _found(facts: HostFacts, entry: DeviceEntry, known: Mapping[tuple[str, ...], Bdf]) -> Bdf | None:
    """Where a device of the inventory is; None when that is not certain, which its own decision then says."""
    try:
        return resolve(facts, entry.identity, known)
    except SafetyRefusal:
        return None

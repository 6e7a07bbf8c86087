"""Reading a host for provisioning, and what is wanted of it."""

from __future__ import annotations

from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import LabError, SafetyRefusal, UsageError
from harness.lab.inventory.models import LabEntry
from harness.lab.provision.facts import SystemFacts, parse_facts
from harness.lab.provision.plan import BY_HAND, describe, obstacles, plan
from harness.lab.provision.wanted import ASKED, GRUB_FILE, MENU, MODULES_FILE, ProvisionGoal, wanted
from harness.transport.base import Transport
from harness.transport.sections import Keep, ask
from harness.xen.keys.xl_output import parse_list

_PROGRAM = Path(__file__).with_name("facts.sh")
_SECONDS = 60.0


def read(transport: Transport, keep: Keep | None = None) -> SystemFacts:
    """One round trip, nothing is changed. EvidenceError, ParseError, HostUnreachable."""
    words = [*ASKED, "--", GRUB_FILE, MODULES_FILE, MENU]
    return parse_facts(ask(transport, _PROGRAM, *words, deadline=Deadline.after(_SECONDS), keep=keep))


def wanted_of(facts: SystemFacts) -> ProvisionGoal:
    """What this host shall have."""
    return wanted(facts.os_id, facts.os_version, facts.cmdline)


def refuse_forbidden(name: str, entry: LabEntry) -> None:
    """SafetyRefusal unless the inventory allows what provisioning does."""
    needed = ("allow_persistent", "allow_reboot")
    missing = [field for field in needed if not getattr(entry, field)]
    if missing:
        raise SafetyRefusal(
            f"{name}: provisioning changes the system for good and reboots it, which the inventory does not allow",
            hint=f"set {' and '.join(f'{field}: true' for field in missing)} for {name}, if it is yours to change",
        )


def refuse_unsuited(name: str, facts: SystemFacts) -> None:
    """UsageError with everything that stands in the way, and what to do by hand."""
    found = obstacles(facts, wanted_of(facts))
    if found:
        raise UsageError(f"{name} cannot be provisioned: {'; '.join(found)}", hint=BY_HAND)


def refuse_guests(transport: Transport, facts: SystemFacts) -> None:
    """A reboot would end them. SafetyRefusal with their names, LabError where Xen does not say."""
    if not facts.dom0:
        return
    seen = transport.run(["xl", "list"], deadline=Deadline.after(_SECONDS))
    if not seen.ok:
        raise LabError(
            f"{transport.name}: whether it has guests, xl does not say: {seen.complaint}",
            hint="they would be rebooted away; mend xl, or shut them down and boot plain Linux by hand",
        )
    guests = [row.name for row in parse_list(seen.text, file="xl list") if row.domid != 0]
    if guests:
        raise SafetyRefusal(f"{transport.name} has guests: {', '.join(guests)}", hint="shut them down first")


def plan_lines(facts: SystemFacts) -> list[str]:
    """What provisioning would do to this host, for a person; empty when nothing."""
    hindered = obstacles(facts, wanted_of(facts))
    if hindered:
        return [f"cannot be provisioned: {one}" for one in hindered] + [f"instead: {BY_HAND}"]
    return describe(plan(facts, wanted_of(facts)))

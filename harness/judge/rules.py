"""What must be seen of a device at each checkpoint, and of a guest that stays out of it. Pure.

They choose from harness/judge/expectations.py; what differs by the ending and by the follow-on is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.judge import expectations as expect
from harness.judge.expectations import QUARANTINE, Expected, check
from harness.judge.judgement import Check
from harness.model.checkpoint import Checkpoint
from harness.model.observation import Observation
from harness.scenario.record import Record
from harness.scenario.spec import GUEST_A, Fate, Interrupts, Next, makes_next_guest
from harness.xen.keys.console import MarkerKind

PCIBACK = "pciback"
_EBUSY = -16
_WORKING = Expected(memory=True, enabled=True, masked=False)


def ends_late(record: Record) -> bool:
    """Something is left of guest A under guest B, which is another domain."""
    return bool(record.scenario.end.late) and record.guests.get("A") != record.guests.get("B")


def device(record: Record) -> Iterator[Check]:
    """All that must be seen of one device, checkpoint by checkpoint."""
    end, follow = record.scenario.end, record.scenario.follow
    yield from _at(record, Checkpoint.C0, _c0)
    yield from _at(record, Checkpoint.C1, _c1)
    if end.fate is not Fate.REFUSED:
        yield from _at(record, Checkpoint.C2, _c2)
        yield from _at(record, Checkpoint.C3, _c3)
    if end.fate is not Fate.RESTARTED:
        yield from _at(record, Checkpoint.C4, _c4)
        first, after = record.at(Checkpoint.C1), record.at(Checkpoint.C4)
        if after is not None:
            yield from expect.no_leaks(Checkpoint.C4, after.xen, first.xen if first else None)
    if follow.makes_next_guest:
        yield from _next_guest(record)
    if follow.next is Next.BACK_TO_DOM0:
        yield from _at(record, Checkpoint.C7, _c7)
    if ends_late(record) and record.at(Checkpoint.C6) is not None:
        yield from _at(record, Checkpoint.C8, _c8)


def bystander(record: Record) -> Iterator[Check]:
    """Guest C has the second device and gets its interrupts, whatever becomes of the first."""
    yield from _at(record, Checkpoint.C1, _c1)
    for at in (Checkpoint.C2, Checkpoint.C4, Checkpoint.C6):
        yield from _at(record, at, lambda record, seen: _guest_works(record, seen, "C"))


def _at(record: Record, at: Checkpoint, rule: Callable[[Record, Observation], Iterator[Check]]) -> Iterator[Check]:
    seen = record.at(at)
    if seen is None:
        yield expect.missing(at, "all views")
    else:
        yield from rule(record, seen)


def _c0(record: Record, seen: Observation) -> Iterator[Check]:
    yield from expect.hardware(Checkpoint.C0, seen.hardware, Expected(memory=True, enabled=True, masked=False))
    yield from expect.owner(Checkpoint.C0, seen.xen, "d0")
    if record.dom0_traffic:
        yield from expect.works(Checkpoint.C0, seen.guest)


def _c1(record: Record, seen: Observation) -> Iterator[Check]:
    wanted = Expected(memory=True, enabled=False, masked=False, driver=PCIBACK)
    yield from expect.hardware(Checkpoint.C1, seen.hardware, wanted)
    yield from expect.owner(Checkpoint.C1, seen.xen, QUARANTINE if record.quarantines else "d0")
    yield from expect.no_irqs(Checkpoint.C1, seen.xen)


def _c2(record: Record, seen: Observation) -> Iterator[Check]:
    yield from _guest_works(record, seen, "A")


def _c3(record: Record, seen: Observation) -> Iterator[Check]:
    """What the fault did is recorded by the hazard; the device must still answer, and be as the catalogue says."""
    after = record.scenario.end.after_fault
    wanted = Expected(memory=after.memory, enabled=after.enabled, masked=after.masked, driver=after.driver)
    yield from expect.hardware(Checkpoint.C3, seen.hardware, wanted)
    if after.no_irqs:
        yield from expect.no_irqs(Checkpoint.C3, seen.xen)
    yield from expect.held_back(Checkpoint.C3, seen)
    if record.scenario.end.works_after_fault:
        yield from _guest_works(record, seen, "A")


def _c4(record: Record, seen: Observation) -> Iterator[Check]:
    end, at = record.scenario.end, Checkpoint.C4
    wanted = Expected(memory=True, enabled=False, driver=PCIBACK)  # Masked either way: legal on a fixed hypervisor
    if end.decoding_stays_off:  # and nobody resets the device any more, so what Xen said it did still stands
        wanted = replace(wanted, memory=None, masked=_said_maskall(record, seen) or None)
    yield from expect.hardware(at, seen.hardware, wanted)
    yield from expect.owner(at, seen.xen, QUARANTINE)
    yield from expect.no_irqs(at, seen.xen)
    yield from expect.held_back(at, seen)
    domid = record.guests.get("A")
    match end.fate:
        case Fate.GONE:
            yield from expect.gone(at, seen, domid)
        case Fate.ZOMBIE:
            yield from expect.dying(at, seen, domid)
            yield from expect.unbound(at, seen.xen)
        case Fate.DETACHED:
            yield from expect.alive(at, seen, domid, GUEST_A)
        case Fate.REFUSED:
            yield from expect.never_there(at, seen, GUEST_A)
        case Fate.REBOOTED:
            yield expect.fixed_at_boot(at, seen.device, record.markers, record.messages)
            yield from expect.never_there(at, seen, GUEST_A)


def _said_maskall(record: Record, seen: Observation) -> bool:
    """Xen says that it set MASKALL of the device (msi_set_mask_bit)."""
    return any(one.kind is MarkerKind.MASKALL_SET and one.device == seen.device for one, _ in record.markers)


def _next_guest(record: Record) -> Iterator[Check]:
    created = next((done for done in reversed(record.actions) if makes_next_guest(done.verb)), None)
    if created is None:
        yield expect.missing(Checkpoint.C5, "toolstack")
        return
    if _must_be_refused(record):
        devices = {seen.device for seen in record.observations}
        refused = any(
            marker.kind is MarkerKind.ASSIGN_FAILED and marker.error == _EBUSY and marker.device in devices
            for marker, _ in record.markers
        )
        if not refused and not created.ok and any(one.loses for one in record.messages or ()):
            yield expect.missing(Checkpoint.C5, "messages")  # why it failed is among the lines that were left out
            return
        seen = "refused with -EBUSY" if refused and not created.ok else created.detail
        yield check(
            Checkpoint.C5, "toolstack", "create", "refused with -EBUSY", seen, refused and not created.ok, created.raw
        )
        return
    yield check(Checkpoint.C5, "toolstack", "create", "status 0", created.detail, created.ok, created.raw)
    if not created.ok:
        return
    yield from _at(record, Checkpoint.C5, _c5)
    yield from _at(record, Checkpoint.C6, _c6)


def _must_be_refused(record: Record) -> bool:
    """pci_reset_msix_state() must say -EBUSY when no reset could clear MASKALL (575e18d54d19)."""
    if record.reset_effective or record.scenario.follow.cures:
        return False
    idle = record.at(Checkpoint.C4)
    return bool(idle and idle.hardware and idle.hardware.control and idle.hardware.control.masked)


def _c5(record: Record, seen: Observation) -> Iterator[Check]:
    yield from expect.hardware(Checkpoint.C5, seen.hardware, Expected(memory=True))
    yield from expect.owner(Checkpoint.C5, seen.xen, f"d{record.guests.get('B')}")


def _c6(record: Record, seen: Observation) -> Iterator[Check]:
    if record.scenario.end.next.interrupts is Interrupts.INTX:
        yield from _guest_works_by_intx(record, seen)
    else:
        yield from _guest_works(record, seen, "B")


def _c8(record: Record, seen: Observation) -> Iterator[Check]:
    yield from _guest_works(record, seen, "B")
    yield from expect.gone(Checkpoint.C8, seen, record.guests.get("A"))


def _guest_works(record: Record, seen: Observation, guest: str) -> Iterator[Check]:
    at = seen.checkpoint
    if seen.guest is None:  # a guest that never answered: the registers of an idle device would tell nothing of Xen
        yield expect.missing(at, "guest")
        return
    domain = f"d{record.guests.get(guest)}"
    before = None if at is Checkpoint.C2 else record.at(Checkpoint.C2)
    yield from expect.hardware(at, seen.hardware, _WORKING)
    yield from expect.owner(at, seen.xen, domain)
    yield from expect.works(at, seen.guest)
    yield from expect.vectors(at, seen, domain, before.xen if before else None)


def _guest_works_by_intx(record: Record, seen: Observation) -> Iterator[Check]:
    at = seen.checkpoint
    yield from expect.hardware(at, seen.hardware, Expected(memory=True, enabled=False))
    yield from expect.owner(at, seen.xen, f"d{record.guests.get('B')}")
    yield from expect.works_by_intx(at, seen.guest)


def _c7(record: Record, seen: Observation) -> Iterator[Check]:
    wanted = Expected(memory=True, enabled=True, masked=False, driver=record.dom0_driver)
    yield from expect.hardware(Checkpoint.C7, seen.hardware, wanted)
    yield from expect.owner(Checkpoint.C7, seen.xen, "d0")
    if record.dom0_traffic:
        yield from expect.works(Checkpoint.C7, seen.guest)

"""What must be seen of a device at each checkpoint, and of a guest that stays out of it. Pure.

They choose from harness/judge/rules.py; what differs by the ending and by the follow-on is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.judge.judgement import Check, Outcome
from harness.model.address import Bdf
from harness.model.message import Marker, MarkerKind, Meaning, Message, Origin, kinds
from harness.model.observation import Checkpoint, DomainView, GuestView, HardwareView, Observation, RawRef, XenView
from harness.scenario.record import Record
from harness.scenario.spec import GUEST_A, Fate, InterruptKind, Next, makes_next_guest

QUARANTINE = "DomIO"


ZOMBIE = "(null)"  # how xl list calls a domain that xenstore has forgotten


@dataclass(frozen=True)
class Expected:
    """How a device must look; None means: either way."""

    memory: bool | None = None
    enabled: bool | None = None
    masked: bool | None = None
    owner: str | None = None
    driver: str | None = None


def check(at: Checkpoint, view: str, subject: str, expected: str, seen: object, met: bool, raw: RawRef | None) -> Check:
    if seen is None:
        return Check(at, view, subject, expected, "nothing", Outcome.MISSING, raw)
    return Check(at, view, subject, expected, str(seen), Outcome.MET if met else Outcome.VIOLATED, raw)


def missing(at: Checkpoint, view: str) -> Check:
    return Check(at, view, "view", "present", "nothing", Outcome.MISSING)


def hardware(at: Checkpoint, view: HardwareView | None, wanted: Expected) -> Iterator[Check]:
    """Config space as dom0 reads it."""
    if view is None:
        yield missing(at, "hardware")
        return
    yield check(
        at, "hardware", "device", "answers", "all bytes 0xff" if view.gone else "answers", not view.gone, view.raw
    )
    if view.gone:
        return
    if wanted.driver is not None:
        yield check(
            at, "hardware", "driver", wanted.driver, view.driver or "none", view.driver == wanted.driver, view.raw
        )
    if wanted.memory is not None and view.physfn is None:  # a VF's memory decoding is its PF's (PCIe SR-IOV, 9.3.4.1.3)
        met = view.command is not None and view.command.memory == wanted.memory
        yield check(at, "hardware", "COMMAND", _sign("Mem", wanted.memory), view.command, met, view.raw)
    yield from _control(at, "hardware", view.control, wanted, view.raw)


def _control(at: Checkpoint, view: str, control: object, wanted: Expected, raw: RawRef) -> Iterator[Check]:
    for name, attribute, value in (("Enable", "enabled", wanted.enabled), ("Masked", "masked", wanted.masked)):
        if value is not None:
            met = getattr(control, attribute, None) == value
            yield check(at, view, "message control", _sign(name, value), control, met, raw)


def _sign(name: str, value: bool) -> str:
    return f"{name}{'+' if value else '-'}"


def owner(at: Checkpoint, view: XenView | None, wanted: str) -> Iterator[Check]:
    """Whose device it is, as Xen says."""
    if view is None:
        yield missing(at, "xen")
        return
    yield check(
        at, "xen", "owner", wanted, view.owner or "not listed", view.owner == wanted, view.raw_keys.at(view.owner_line)
    )


def no_irqs(at: Checkpoint, view: XenView | None) -> Iterator[Check]:
    """Nothing of the former owner's interrupts is left."""
    if view is not None:
        left = " ".join(map(str, view.irqs)) or "none"
        yield check(at, "xen", "irqs of the device", "none", left, not view.irqs, view.raw_keys.at(view.owner_line))


def unbound(at: Checkpoint, view: XenView | None) -> Iterator[Check]:
    """What a dying domain still holds of the device is bound to nobody (arch_pci_clean_pirqs), and Xen masks it."""
    if view is None:
        return
    owners = " ".join(sorted({name for names in view.bound.values() for name in names}))
    raw = view.raw_keys.at(view.owner_line)
    yield check(at, "xen", "vectors bound to", "nobody", owners or "nobody", not owners, raw)
    for irq in view.irqs:
        mask = next((one for one in view.masks if one.irq == irq), None)
        if mask is None:
            yield Check(at, "xen", f"irq {irq}", "masked by Xen", "nothing", Outcome.MISSING, raw)
        else:
            place = view.raw_keys.at(mask.line)
            yield check(at, "xen", f"irq {irq}", "masked by Xen", f"host={mask.host:d}", mask.host, place)


def no_leaks(at: Checkpoint, view: XenView | None, before: XenView | None) -> Iterator[Check]:
    """No vector anywhere that is mapped but bound to nobody and was not there at the start."""
    if view is None or before is None:
        return
    leaked = sorted(set(view.unbound) - set(before.unbound))
    seen = " ".join(map(str, leaked)) or "none"
    yield check(at, "xen", "leaked irqs (mapped, unbound)", "none", seen, not leaked, view.raw_keys)


def vectors(at: Checkpoint, seen: Observation, domain: str, like: XenView | None) -> Iterator[Check]:
    """The vectors of a working driver: as many as before, bound to the owner alone, and none masked against Xen's will.

    A vector that the guest itself masks is the guest's choice. One that Xen masks, or that the hardware masks though
    neither wants it, is how Xen 4.20 loses interrupts while lspci says Enable+ Masked-.
    """
    view = seen.xen
    if view is None:
        return
    raw = view.raw_keys.at(view.owner_line)
    owners = sorted({name for names in view.bound.values() for name in names})
    if like is not None:
        yield check(
            at, "xen", "number of vectors", str(len(like.irqs)), len(view.irqs), len(view.irqs) == len(like.irqs), raw
        )
    elif seen.guest is not None:  # a guest that never answered may not have come as far as its driver
        yield check(at, "xen", "number of vectors", "1 or more", len(view.irqs), bool(view.irqs), raw)
    if owners or seen.guest is not None:
        yield check(at, "xen", "vectors bound to", domain, " ".join(owners) or "nobody", owners == [domain], raw)
    for irq in view.irqs:
        mask = next((one for one in view.masks if one.irq == irq), None)
        if mask is None or mask.hardware is None or irq not in view.bound:
            yield check(at, "xen", f"irq {irq}", "mask and binding known", None, False, raw)
        if mask is not None and (mask.host or (mask.hardware is True and not mask.guest)):
            hardware = "?" if mask.hardware is None else int(mask.hardware)
            state = f"host={mask.host:d} guest={mask.guest:d} hardware={hardware}"
            yield check(at, "xen", f"irq {irq}", "not masked by Xen", state, False, view.raw_keys.at(mask.line))
    if seen.table is not None:
        open_entries = seen.table.masked.count(False)
        yield check(at, "table", "unmasked entries", "1 or more", open_entries, open_entries > 0, seen.table.raw)


def held_back(at: Checkpoint, seen: Observation) -> Iterator[Check]:
    """Vectors that belong to nobody cannot fire: each is masked, or where Xen could not reach them, MASKALL is set.

    Xen masks a vector when its pirq is unbound and when it is unmapped (msi_set_mask_bit, __pci_disable_msix).
    """
    control = seen.hardware.control if seen.hardware else None
    if seen.table is None or control is None or seen.xen is None or seen.xen.irqs:
        return
    unmasked = " ".join(str(entry) for entry, masked in enumerate(seen.table.masked) if not masked)
    shown = "MASKALL" if control.masked else f"open: {unmasked}" if unmasked else "each masked"
    met = control.masked or not unmasked
    yield check(at, "table", "vectors of nobody", "each masked, or MASKALL", shown, met, seen.table.raw)


def works(at: Checkpoint, view: GuestView | None, *, control: bool = True) -> Iterator[Check]:
    """The driver's owner sees a device that interrupts."""
    if view is None:
        yield missing(at, "guest")
        return
    if control:
        yield from _control(at, "guest", view.control, Expected(enabled=True, masked=False), view.raw)
    yield check(at, "guest", "vectors of the driver", "1 or more", view.vectors, view.vectors > 0, view.raw)
    yield from _interrupts(at, view)


def works_by_intx(at: Checkpoint, view: GuestView | None) -> Iterator[Check]:
    """The owner uses the interrupt line, and MSI-X stays off."""
    if view is None:
        yield missing(at, "guest")
        return
    yield from _control(at, "guest", view.control, Expected(enabled=False), view.raw)
    yield check(at, "guest", "vectors of the driver", "none", view.vectors, view.vectors == 0, view.raw)
    yield from _interrupts(at, view)


def _interrupts(at: Checkpoint, view: GuestView) -> Iterator[Check]:
    yield check(at, "guest", "interrupts under traffic", "more than 0", view.delta, view.delta > 0, view.raw)
    yield check(
        at, "guest", "traffic", "succeeds", "succeeded" if view.traffic_ok else "failed", view.traffic_ok, view.raw
    )


def fixed_at_boot(
    at: Checkpoint, device: Bdf, markers: Sequence[tuple[Marker, RawRef]], said: Iterable[Message] | None
) -> Check:
    """Xen has said that it found MASKALL at boot and cleared it (913751d7af, pdev_msi_init).

    Silence is none where Xen left lines out.
    """
    subject, wanted = "MASKALL left by firmware", "found and cleared"
    found = [(one, raw) for one, raw in markers if one.kind is MarkerKind.INITIAL_STATE_FIXED and one.device == device]
    seen, raw = (found[0][0].text, found[0][1]) if found else ("Xen says nothing", None)
    lossy = next((one for one in said or () if one.loses and one.origin is Origin.XEN), None)
    if lossy is not None and not found:
        return Check(at, "xen", subject, wanted, f"nothing, but {lossy.text}", Outcome.MISSING, lossy.raw)
    return check(at, "xen", subject, wanted, seen, bool(found), raw)


def gone(at: Checkpoint, seen: Observation, domid: int | None) -> Iterator[Check]:
    """The domain is no more, not even as a zombie, and libxl has forgotten that it had the device."""
    yield from _fate(at, seen, domid, "gone", (None,))


def dying(at: Checkpoint, seen: Observation, domid: int | None) -> Iterator[Check]:
    """The domain is a zombie at most, and libxl has forgotten that it had the device."""
    yield from _fate(at, seen, domid, "a zombie at most", (None, ZOMBIE))


def alive(at: Checkpoint, seen: Observation, domid: int | None, name: str) -> Iterator[Check]:
    """The domain lives on, and libxl has forgotten that it had the device."""
    yield from _fate(at, seen, domid, f"alive as {name}", (name,))


def _fate(
    at: Checkpoint, seen: Observation, domid: int | None, wanted: str, names: Sequence[str | None]
) -> Iterator[Check]:
    view = seen.domains
    if view is None or domid is None:
        yield missing(at, "toolstack")
        return
    name = view.names.get(domid)
    shown = "gone" if name is None else name
    yield check(at, "toolstack", f"domain {domid}", wanted, shown, name in names, view.raw)
    yield _owner(at, view, f"not {domid}", view.device_owner != domid)


def never_there(at: Checkpoint, seen: Observation, name: str) -> Iterator[Check]:
    """A refused create leaves neither a domain nor a note of libxl that the device has an owner."""
    view = seen.domains
    if view is None:
        yield missing(at, "toolstack")
        return
    found = [domid for domid, other in view.names.items() if other in (name, ZOMBIE)]
    shown = " ".join(f"domain {domid}" for domid in found) or "none"
    yield check(at, "toolstack", f"domains called {name}", "none", shown, not found, view.raw)
    yield _owner(at, view, "none", view.device_owner is None)


def _owner(at: Checkpoint, view: DomainView, wanted: str, good: bool) -> Check:
    """Whom libxl notes as the device's owner; missing where xenstore did not answer."""
    subject = "libxl's owner of the device"
    if view.owner_unread:
        seen = f"xenstore-read: {view.owner_unread}"
        return Check(at, "toolstack", subject, wanted, seen, Outcome.MISSING, view.raw)
    shown = "none" if view.device_owner is None else view.device_owner
    return check(at, "toolstack", subject, wanted, shown, good, view.raw)


def messages(at: Checkpoint, said: Iterable[Message] | None, *, strict: bool) -> Iterator[Check]:
    """What Xen and dom0's kernel said: nothing that fails every scenario, and when `strict` nothing without a rule.

    A check for each kind of line that is wrong, or one, at `at`, that none is. Where Xen or dom0 left lines out, that
    none is wrong was not seen.
    """
    if said is None:
        yield missing(at, "messages")
        return
    wrong = [
        first
        for first, *_ in kinds(said)
        if (first.fails and not first.expected) or (strict and first.meaning is Meaning.UNKNOWN)
    ]
    for one in wrong:
        expected = f"no {one.name}" if one.name else "known to messages.yaml"
        yield check(one.checkpoint, "messages", "lines", expected, f"{one.origin.value}: {one.text}", False, one.raw)
    lossy = [first for first, *_ in kinds(said) if first.loses]
    for one in lossy:
        seen = f"{one.origin.value}: {one.text}"
        yield Check(one.checkpoint, "messages", "lines", "none left out", seen, Outcome.MISSING, one.raw)
    if not wrong and not lossy:
        wanted = "no fault, all known to messages.yaml" if strict else "no fault"
        yield check(at, "messages", "lines", wanted, wanted, True, None)


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
            yield from no_leaks(Checkpoint.C4, after.xen, first.xen if first else None)
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
        yield missing(at, "all views")
    else:
        yield from rule(record, seen)


def _c0(record: Record, seen: Observation) -> Iterator[Check]:
    yield from hardware(Checkpoint.C0, seen.hardware, Expected(memory=True, enabled=True, masked=False))
    yield from owner(Checkpoint.C0, seen.xen, "d0")
    if record.dom0_traffic:
        yield from works(Checkpoint.C0, seen.guest)


def _c1(record: Record, seen: Observation) -> Iterator[Check]:
    wanted = Expected(memory=True, enabled=False, masked=False, driver=PCIBACK)
    yield from hardware(Checkpoint.C1, seen.hardware, wanted)
    yield from owner(Checkpoint.C1, seen.xen, QUARANTINE if record.quarantines else "d0")
    yield from no_irqs(Checkpoint.C1, seen.xen)


def _c2(record: Record, seen: Observation) -> Iterator[Check]:
    yield from _guest_works(record, seen, "A")


def _c3(record: Record, seen: Observation) -> Iterator[Check]:
    """What the fault did is recorded by the hazard; the device must still answer, and be as the catalogue says."""
    after = record.scenario.end.after_fault
    wanted = Expected(memory=after.memory, enabled=after.enabled, masked=after.masked, driver=after.driver)
    yield from hardware(Checkpoint.C3, seen.hardware, wanted)
    if after.no_irqs:
        yield from no_irqs(Checkpoint.C3, seen.xen)
    yield from held_back(Checkpoint.C3, seen)
    if record.scenario.end.works_after_fault:
        yield from _guest_works(record, seen, "A")


def _c4(record: Record, seen: Observation) -> Iterator[Check]:
    end, at = record.scenario.end, Checkpoint.C4
    wanted = Expected(memory=True, enabled=False, driver=PCIBACK)  # Masked either way: legal on a fixed hypervisor
    if end.decoding_stays_off:  # and nobody resets the device any more, so what Xen said it did still stands
        wanted = replace(wanted, memory=None, masked=_said_maskall(record, seen) or None)
    yield from hardware(at, seen.hardware, wanted)
    yield from owner(at, seen.xen, QUARANTINE)
    yield from no_irqs(at, seen.xen)
    yield from held_back(at, seen)
    domid = record.guests.get("A")
    match end.fate:
        case Fate.GONE:
            yield from gone(at, seen, domid)
        case Fate.ZOMBIE:
            yield from dying(at, seen, domid)
            yield from unbound(at, seen.xen)
        case Fate.DETACHED:
            yield from alive(at, seen, domid, GUEST_A)
        case Fate.REFUSED:
            yield from never_there(at, seen, GUEST_A)
        case Fate.REBOOTED:
            yield fixed_at_boot(at, seen.device, record.markers, record.messages)
            yield from never_there(at, seen, GUEST_A)


def _said_maskall(record: Record, seen: Observation) -> bool:
    """Xen says that it set MASKALL of the device (msi_set_mask_bit)."""
    return any(one.kind is MarkerKind.MASKALL_SET and one.device == seen.device for one, _ in record.markers)


def _next_guest(record: Record) -> Iterator[Check]:
    created = next((done for done in reversed(record.actions) if makes_next_guest(done.verb)), None)
    if created is None:
        yield missing(Checkpoint.C5, "toolstack")
        return
    if _must_be_refused(record):
        devices = {seen.device for seen in record.observations}
        refused = any(
            marker.kind is MarkerKind.ASSIGN_FAILED and marker.error == _EBUSY and marker.device in devices
            for marker, _ in record.markers
        )
        if not refused and not created.ok and any(one.loses for one in record.messages or ()):
            yield missing(Checkpoint.C5, "messages")  # why it failed is among the lines that were left out
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
    yield from hardware(Checkpoint.C5, seen.hardware, Expected(memory=True))
    yield from owner(Checkpoint.C5, seen.xen, f"d{record.guests.get('B')}")


def _c6(record: Record, seen: Observation) -> Iterator[Check]:
    if record.scenario.end.next.interrupts is InterruptKind.INTX:
        yield from _guest_works_by_intx(record, seen)
    else:
        yield from _guest_works(record, seen, "B")


def _c8(record: Record, seen: Observation) -> Iterator[Check]:
    yield from _guest_works(record, seen, "B")
    yield from gone(Checkpoint.C8, seen, record.guests.get("A"))


def _guest_works(record: Record, seen: Observation, guest: str) -> Iterator[Check]:
    at = seen.checkpoint
    if seen.guest is None:  # a guest that never answered: the registers of an idle device would tell nothing of Xen
        yield missing(at, "guest")
        return
    domain = f"d{record.guests.get(guest)}"
    before = None if at is Checkpoint.C2 else record.at(Checkpoint.C2)
    yield from hardware(at, seen.hardware, _WORKING)
    yield from owner(at, seen.xen, domain)
    yield from works(at, seen.guest)
    yield from vectors(at, seen, domain, before.xen if before else None)


def _guest_works_by_intx(record: Record, seen: Observation) -> Iterator[Check]:
    at = seen.checkpoint
    yield from hardware(at, seen.hardware, Expected(memory=True, enabled=False))
    yield from owner(at, seen.xen, f"d{record.guests.get('B')}")
    yield from works_by_intx(at, seen.guest)


def _c7(record: Record, seen: Observation) -> Iterator[Check]:
    wanted = Expected(memory=True, enabled=True, masked=False, driver=record.dom0_driver)
    yield from hardware(Checkpoint.C7, seen.hardware, wanted)
    yield from owner(Checkpoint.C7, seen.xen, "d0")
    if record.dom0_traffic:
        yield from works(Checkpoint.C7, seen.guest)

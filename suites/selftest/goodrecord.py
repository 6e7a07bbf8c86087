"""Records of runs in which everything went well, for the judge's tests to damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.evidence.raw import RawRef
from harness.guest.spec import GuestType
from harness.pci.address import Bdf
from harness.pci.config import Command, MsixControl
from harness.scenario.checkpoint import Checkpoint
from harness.scenario.judge import PCIBACK
from harness.scenario.observation import (
    DomainView,
    GuestView,
    HardwareView,
    Observation,
    TableView,
    VectorMask,
    XenView,
)
from harness.scenario.record import Action, Record
from harness.scenario.spec import Scenario, Verb, catalogue
from harness.xen.console import Marker, MarkerKind

NVME = Bdf.parse("0000:04:00.0")
OTHER = Bdf.parse("0000:05:00.0")
CATALOGUE = catalogue()
C0, C1, C2, C3, C4, C5, C6, C7 = Checkpoint
A, B = 3, 4  # domids

IDLE, WORKING, WORKING_MASKED, IDLE_MASKED = 0x0040, 0x8040, 0xC040, 0x4040
_MEMORY_ON, _MASTER = 0x0002, 0x0406
_CHECKPOINT_OF_STEP = {Verb.REBIND: C5, Verb.SAME_GUEST: C5, Verb.OTHER_GUEST: C5, Verb.BACK_TO_DOM0: C7}


def raw(name: str, line: int = 0) -> RawRef:
    return RawRef(f"raw/{name}", "ab" * 32, line)


def scenario(ending: str, follow_on: str, device: str = "nvme") -> Scenario:
    end, follow = CATALOGUE.endings[ending], CATALOGUE.follow_ons[follow_on]
    return Scenario(ending, follow_on, GuestType.HVM, device, end, follow)


def hardware(at: Checkpoint, command: int, control: int, driver: str | None) -> HardwareView:
    return HardwareView(False, Command(command), MsixControl(control), driver, raw(f"{at}/config.hex"))


def xen(at: Checkpoint, owner: str, irqs: tuple[int, ...] = ()) -> XenView:
    """Key rows of a device in order; 40 and 41 are another device's vectors that were never bound."""
    masks = tuple(VectorMask(irq, False, False, False, 60 + irq) for irq in irqs)
    bound = {irq: (owner,) for irq in irqs}
    return XenView(owner, irqs, masks, (40, 41), raw(f"{at}/xl_dmesg.txt"), 17, bound)


def guest(at: Checkpoint, domain: str) -> GuestView:
    name = raw(f"{at}/exercise.txt", 9)
    return GuestView(domain, Command(_MASTER), MsixControl(WORKING), 2, 13, 25, True, "nvme", name)


def domains(at: Checkpoint, owner: int | None) -> DomainView:
    names = {0: "Domain-0"} | ({owner: "maskall"} if owner is not None else {})
    return DomainView(names, owner, raw(f"{at}/xl_list.txt"))


def idle(at: Checkpoint, control: int = IDLE) -> Observation:
    return Observation(at, NVME, 1.0, hardware(at, _MEMORY_ON, control, PCIBACK), None, xen(at, "DomIO"), None,
                       domains(at, None))  # fmt: skip


def in_use(at: Checkpoint, domid: int, driver: str | None = PCIBACK) -> Observation:
    """A working driver, in a guest or (domid 0) in dom0."""
    table = TableView((False, False, True, True), raw(f"{at}/msix_table.txt"))
    owner = f"d{domid}"
    return Observation(at, NVME, 1.0, hardware(at, _MASTER, WORKING, driver), table, xen(at, owner, (44, 45)),
                       guest(at, owner), domains(at, domid or None))  # fmt: skip


def created(at: Checkpoint, domid: int) -> Observation:
    return Observation(at, NVME, 1.0, hardware(at, _MEMORY_ON, IDLE, PCIBACK), None, xen(at, f"d{domid}"), None,
                       domains(at, domid))  # fmt: skip


def marker(kind: MarkerKind, text: str, device: Bdf | None = NVME, error: int | None = None) -> tuple[Marker, RawRef]:
    return Marker(kind, 311, text, device, error=error), raw("xl_dmesg.txt", 311)


def hazard_marker(device: Bdf = NVME) -> tuple[Marker, RawRef]:
    text = f"cannot mask IRQ 45: masking MSI-X on Dom32753's {device}"
    return marker(MarkerKind.MASKALL_SET, text, device)


def refusal(error: int = -16, device: Bdf = NVME) -> tuple[Marker, RawRef]:
    return marker(MarkerKind.ASSIGN_FAILED, f"d4: assign ({device}) failed ({error})", device, error)


def good(ending: str = "E14", follow_on: str = "F1") -> Record:
    """A complete record of a run on a fixed hypervisor with a device whose reset works."""
    row = scenario(ending, follow_on)
    record = Record(row, reset_effective=True, dom0_driver="nvme", dom0_traffic=True, guests={"A": A})
    steps = [(C2, Verb.CREATE), *((C3, verb) for verb in row.end.fault), *((C4, verb) for verb in row.end.end)]
    steps += [(_CHECKPOINT_OF_STEP[verb], verb) for verb in row.follow.steps]
    record.actions = [Action(verb, at, True, "status 0", 0.5, raw(f"{verb}.txt")) for at, verb in steps]
    record.observations = [in_use(C0, 0, "nvme"), idle(C1), in_use(C2, A)]
    record.observations += [replace(in_use(C3, A), guest=None), idle(C4, IDLE_MASKED if row.end.hazard else IDLE)]
    if Verb.BACK_TO_DOM0 in row.follow.steps:
        record.observations.append(in_use(C7, 0, "nvme"))
    else:
        record.guests["B"] = B
        record.observations += [created(C5, B), in_use(C6, B)]
    if row.end.hazard:
        record.markers = [hazard_marker()]
    return record


def refused() -> Record:
    """A device whose reset does nothing: MASKALL stays at C4, and a fixed hypervisor says -EBUSY to the next create."""
    record = good()
    record.reset_effective = False
    record.observations = [seen for seen in record.observations if seen.checkpoint not in (C5, C6)]
    del record.guests["B"]
    detail = "status 3: libxl: error: xc_assign_device failed: Device or resource busy"
    redo(record, Verb.SAME_GUEST, ok=False, detail=detail)
    record.markers.append(refusal())
    return record


def redo(record: Record, verb: Verb, **changes: object) -> None:
    """Change one action of a record."""
    place = next(i for i, done in enumerate(record.actions) if done.verb == verb)
    record.actions[place] = replace(record.actions[place], **changes)  # type: ignore[arg-type]


def reseen(record: Record, at: Checkpoint, change: Callable[[Observation], Observation]) -> None:
    """Change the observation at one checkpoint."""
    place = next(i for i, seen in enumerate(record.observations) if seen.checkpoint is at)
    record.observations[place] = change(record.observations[place])


def view(at: Checkpoint, name: str, **changes: object) -> Callable[[Record], None]:
    """A mutation of a record: some facts of one view at one checkpoint."""

    def mutate(record: Record) -> None:
        reseen(record, at, lambda seen: replace(seen, **{name: replace(getattr(seen, name), **changes)}))

    return mutate


def without(at: Checkpoint, name: str) -> Callable[[Record], None]:
    """A mutation of a record: one view is not there."""
    return lambda record: reseen(record, at, lambda seen: replace(seen, **{name: None}))

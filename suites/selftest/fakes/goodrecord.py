"""Records of runs in which everything went well, for the judge's tests to damage."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from harness.judge.growth import COUNTERS
from harness.judge.rules import PCIBACK
from harness.model.address import Bdf
from harness.model.config import CommandRegister, MsixControl
from harness.model.guestspec import GuestType
from harness.model.message import Marker, MarkerKind
from harness.model.observation import (
    Checkpoint,
    DomainView,
    GuestView,
    HardwareView,
    Observation,
    RawRef,
    TableView,
    VectorMask,
    XenView,
)
from harness.play.catalogue import catalogue
from harness.scenario.choose import Candidate, all_scenarios
from harness.scenario.record import Action, Record, Round
from harness.scenario.spec import Fate, InterruptKind, Scenario

NVME = Bdf.parse("0000:04:00.0")
OTHER = Bdf.parse("0000:05:00.0")
CATALOGUE = catalogue()
C0, C1, C2, C3, C4, C5, C6, C7, C8 = Checkpoint
A, B, C = 3, 4, 2  # domids

COUNTS = {counter.name: 20 for counter in COUNTERS}  # after every round the same
IDLE, WORKING, WORKING_MASKED, IDLE_MASKED = 0x0040, 0x8040, 0xC040, 0x4040
_MEMORY_ON, _MASTER = 0x0002, 0x0406
_CHECKPOINT_OF_STEP = {"back_to_dom0": C7}  # the others lead to C5


def raw(name: str, line: int = 0) -> RawRef:
    return RawRef(f"raw/{name}", "ab" * 32, line)


def scenario(ending: str, follow_on: str, device: str = "nvme", guest: GuestType = GuestType.HVM) -> Scenario:
    end, follow = CATALOGUE.endings[ending], CATALOGUE.follow_ons[follow_on]
    return Scenario(ending, follow_on, guest, device, end, follow)


@functools.cache
def rows() -> list[Scenario]:
    """Every kind of scenario once: with the first guest and the fewest devices that it is for."""
    devices = [Candidate("nvme", "nvme"), Candidate("e1000e", "e1000e", reset_effective=False)]
    devices.append(Candidate("igb-vf", "igb-vf", virtual_function=True))
    known: dict[tuple[str, str], Scenario] = {}
    for row in all_scenarios(CATALOGUE, devices):
        known.setdefault((row.ending, row.follow_on), row)
    return list(known.values())


def hardware(at: Checkpoint, command: int, control: int, driver: str | None) -> HardwareView:
    return HardwareView(False, CommandRegister(command), MsixControl(control), driver, raw(f"{at}/config.hex"))


def xen(at: Checkpoint, owner: str, irqs: tuple[int, ...] = ()) -> XenView:
    """Key rows of a device in order; 40 and 41 are another device's vectors that were never bound."""
    masks = tuple(VectorMask(irq, False, False, False, 60 + irq) for irq in irqs)
    bound = {irq: (owner,) for irq in irqs}
    return XenView(owner, irqs, masks, (40, 41), raw(f"{at}/xl_dmesg.txt"), 17, bound)


def guest(at: Checkpoint, domain: str) -> GuestView:
    name = raw(f"{at}/exercise.txt", 9)
    return GuestView(domain, CommandRegister(_MASTER), MsixControl(WORKING), 2, 13, 25, True, "nvme", name)


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
    return good_run(next(row for row in rows() if (row.ending, row.follow_on) == (ending, follow_on)))


def good_run(row: Scenario) -> Record:
    """The same for any scenario."""
    record = Record(row, reset_effective=True, dom0_driver="nvme", dom0_traffic=True, messages=[])
    record.actions = _actions(row)
    record.guests = {} if row.end.fate is Fate.REFUSED else {"A": A}
    record.observations = [in_use(C0, 0, "nvme"), idle(C1)]
    if row.end.fate is not Fate.REFUSED:
        last = in_use(C3, A) if row.end.works_after_fault else replace(in_use(C3, A), guest=None)
        if {"unload_driver", "guest_clears_enable"} & set(row.end.fault) and not row.end.works_after_fault:
            kept = "clear_maskall" in row.end.fault  # Xen has put MASKALL back
            last = replace(idle(C3, IDLE_MASKED if kept else IDLE), xen=xen(C3, f"d{A}"))
        if "lose_backend" in row.end.fault:  # pciback has reset the device, and Xen still lets A own it
            last = replace(idle(C3), xen=xen(C3, f"d{A}", (44, 45)))
        record.observations += [in_use(C2, A), last]
    if row.end.fate is not Fate.RESTARTED:
        record.observations.append(_after(row))
    if row.follow.rounds:
        record.guests["B"] = A + row.follow.rounds - 1
    elif "back_to_dom0" in row.follow.steps:
        record.observations.append(in_use(C7, 0, "nvme"))
    else:
        _next(row, record)
    if row.end.fate is Fate.REBOOTED:
        record.planted = raw("planted.txt")
        record.markers = [marker(MarkerKind.INITIAL_STATE_FIXED, f"{NVME}: unexpected initial MSI-X state")]
    elif row.end.hazard:
        record.markers = [hazard_marker()]
    if len(row.devices) > 1:
        record.second = _second(row, record)
    record.rounds = [
        Round(number, A + number - 1, guest(C2, f"d{A + number - 1}"), dict(COUNTS), raw(f"round-{number:02d}.txt"))
        for number in range(1, row.follow.rounds + 1)
    ]
    return record


def _actions(row: Scenario) -> list[Action]:
    refused = row.end.fate is Fate.REFUSED
    steps = [(C2, "create")]
    steps += [] if refused else [(C3, verb) for verb in row.end.fault] + [(C4, verb) for verb in row.end.end]
    steps += [(_CHECKPOINT_OF_STEP.get(verb, C5), verb) for verb in row.follow.steps]
    steps += [(C8, verb) for verb in row.end.late] if _is_another(row) else []
    return [
        Action(verb, at, True, "status 0", 0.5, raw(f"{verb}.txt"))
        if verb not in row.end.refusals
        else Action(verb, at, False, "status 1: no", 0.5, raw(f"{verb}.txt"), SAID[verb])
        for at, verb in steps
    ]


SAID = {
    "create": "libxl: error: passthrough not yet supported for x86 PVH guests; 0000:00:00.0 is not assignable",
    "detach": "libxl: error: timed out waiting for DM to remove pci-pt-04_00.0",
    "assign": "libxl: error: xc_assign_device failed: Device or resource busy",
    "save": "Save failed: domain has a device",
}


def _is_another(row: Scenario) -> bool:
    """Guest B is not the same domain as A."""
    return not (row.end.fate is Fate.DETACHED and row.follow.steps == ("same_guest",))


def _after(row: Scenario) -> Observation:
    """The idle device once guest A has ended as it should."""
    names = {Fate.DETACHED: {0: "Domain-0", A: "maskall-a"}, Fate.ZOMBIE: {0: "Domain-0", A: "(null)"}}
    seen = idle(C4, IDLE_MASKED if row.end.hazard and row.end.fate is Fate.GONE else IDLE)
    found = DomainView(names.get(row.end.fate, {0: "Domain-0"}), None, raw(f"{C4}/xl_list.txt"))
    return replace(seen, domains=found)


def _next(row: Scenario, record: Record) -> None:
    domid = record.guests["B"] = B if _is_another(row) else A
    works = in_use(C6, domid)
    if row.end.next.interrupts is InterruptKind.INTX:
        control = {"control": MsixControl(IDLE)}
        assert works.hardware and works.guest
        works = replace(
            works, hardware=replace(works.hardware, **control), guest=replace(works.guest, **control, vectors=0)
        )
    record.observations += [created(C5, domid), works]
    if row.end.late and _is_another(row):
        record.observations.append(in_use(C8, domid))


def _second(row: Scenario, record: Record) -> Record:
    second = Record(row, reset_effective=True, dom0_driver="nvme", dom0_traffic=True, actions=record.actions)
    second.guests = record.guests
    if row.bystander:
        record.guests["C"] = C
        second.observations = [idle(C1), in_use(C2, C), in_use(C4, C), in_use(C6, C)]
    else:
        second.observations = list(record.observations)
    return second


def refused() -> Record:
    """A device whose reset does nothing: MASKALL stays at C4, and a fixed hypervisor says -EBUSY to the next create."""
    record = good()
    record.reset_effective = False
    record.observations = [seen for seen in record.observations if seen.checkpoint not in (C5, C6)]
    del record.guests["B"]
    detail = "status 3: libxl: error: xc_assign_device failed: Device or resource busy"
    redo(record, "same_guest", ok=False, detail=detail)
    record.markers.append(refusal())
    return record


def redo(record: Record, verb: str, **changes: object) -> None:
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

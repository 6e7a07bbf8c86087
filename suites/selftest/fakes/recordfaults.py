"""Single faults for a good record (scenario E14-F1), and the reason that the judge must give for each."""

from __future__ import annotations

from collections.abc import Callable

from harness.model.config import CommandRegister, MsixControl
from harness.model.observation import VectorMask
from harness.scenario.record import Record
from suites.selftest.fakes.goodrecord import (
    C0,
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    IDLE,
    IDLE_MASKED,
    WORKING_MASKED,
    A,
    B,
    raw,
    redo,
    view,
)
from suites.selftest.fakes.logline import by_rule

Mutation = Callable[[Record], None]


def masks(*rows: tuple[int, bool, bool, bool | None]) -> tuple[VectorMask, ...]:
    return tuple(VectorMask(*row, line=100 + row[0]) for row in rows)


def gone(at: object) -> Mutation:
    return view(at, "hardware", gone=True, command=None, control=None)  # type: ignore[arg-type]


def action(verb: str, detail: str = "status 1: no") -> Mutation:
    return lambda record: redo(record, verb, ok=False, detail=detail)


def both_masked(record: Record) -> None:
    """What a broken hypervisor shows: the mask everywhere, and silence."""
    view(C6, "hardware", control=MsixControl(WORKING_MASKED))(record)
    view(C6, "guest", control=MsixControl(WORKING_MASKED), after=13, traffic_ok=False)(record)


MASK_ROWS = masks((44, False, False, False), (45, False, False, False))
NOT_MASKED = "not masked by Xen"


def says(name: str) -> Mutation:
    """A line in the logs at the end."""
    line = by_rule(name, C6, raw("C6/dom0_dmesg.txt", 7), "so it is")
    return lambda record: setattr(record, "messages", [line])


FAULTS: dict[str, tuple[Mutation, str]] = {
    "MASKALL survives into the next guest": (
        both_masked, "C6 hardware: message control: expected Masked-, seen Enable+ Masked+"),
    "dom0's kernel is hurt": (says("linux-oops"), "C6 messages: lines: expected no linux-oops, seen dom0: so it is"),
    "only the guest sees MASKALL": (
        view(C6, "guest", control=MsixControl(WORKING_MASKED)),
        "C6 guest: message control: expected Masked-, seen Enable+ Masked+"),
    "MSI-X is off in the next guest": (
        view(C6, "hardware", control=MsixControl(IDLE)),
        "C6 hardware: message control: expected Enable+, seen Enable- Masked-"),
    "no interrupt arrives though lspci says Enable+ Masked-": (
        view(C6, "guest", after=13), "C6 guest: interrupts under traffic: expected more than 0, seen 0"),
    "the interrupt count falls": (
        view(C6, "guest", after=12), "C6 guest: interrupts under traffic: expected more than 0, seen -1"),
    "the traffic fails though interrupts come": (
        view(C6, "guest", traffic_ok=False), "C6 guest: traffic: expected succeeds, seen failed"),
    "the next guest's driver holds no vector": (
        view(C6, "guest", vectors=0), "C6 guest: vectors of the driver: expected 1 or more, seen 0"),
    "Xen keeps one vector masked": (
        view(C6, "xen", masks=masks((44, False, False, False), (45, True, False, True))),
        f"C6 xen: irq 45: expected {NOT_MASKED}, seen host=1 guest=0 hardware=1"),
    "Xen keeps one vector masked and cannot read it": (
        view(C6, "xen", masks=masks((44, True, True, None), (45, False, False, False))),
        f"C6 xen: irq 44: expected {NOT_MASKED}, seen host=1 guest=1 hardware=?"),
    "the hardware masks one vector against everybody's will": (
        view(C6, "xen", masks=masks((44, False, False, True), (45, False, False, False))),
        f"C6 xen: irq 44: expected {NOT_MASKED}, seen host=0 guest=0 hardware=1"),
    "the first guest's vector is masked already": (
        view(C2, "xen", masks=masks((44, False, False, False), (45, False, False, True))),
        f"C2 xen: irq 45: expected {NOT_MASKED}, seen host=0 guest=0 hardware=1"),
    "one vector is bound to another domain": (
        view(C6, "xen", bound={44: (f"d{B}",), 45: (f"d{A}",)}),
        f"C6 xen: vectors bound to: expected d{B}, seen d{A} d{B}"),
    "one vector is bound to both domains": (
        view(C6, "xen", bound={44: (f"d{A}", f"d{B}"), 45: (f"d{B}",)}),
        f"C6 xen: vectors bound to: expected d{B}, seen d{A} d{B}"),
    "no vector is bound to anybody": (
        view(C6, "xen", bound={44: (), 45: ()}), f"C6 xen: vectors bound to: expected d{B}, seen nobody"),
    "a vector less than the first guest had": (
        view(C6, "xen", irqs=(44,), masks=MASK_ROWS[:1], bound={44: (f"d{B}",)}),
        "C6 xen: number of vectors: expected 2, seen 1"),
    "a stale vector beside the new ones": (
        view(C6, "xen", irqs=(44, 45, 46), bound={44: (), 45: (f"d{B}",), 46: (f"d{B}",)},
             masks=(*MASK_ROWS, *masks((46, False, False, False)))),
        "C6 xen: number of vectors: expected 2, seen 3"),
    "Xen knows no vector of the first guest": (
        view(C2, "xen", irqs=(), masks=(), bound={}), "C2 xen: number of vectors: expected 1 or more, seen 0"),
    "every table entry is masked": (
        view(C6, "table", masked=(True, True, True, True)),
        "C6 table: unmasked entries: expected 1 or more, seen 0"),
    "irqs stay when the guest has switched MSI-X off": (
        view(C3, "xen", irqs=(44,)), "C3 xen: irqs of the device: expected none, seen 44"),
    "the device keeps irqs after its domain": (
        view(C4, "xen", irqs=(44,)), "C4 xen: irqs of the device: expected none, seen 44"),
    "irqs leak elsewhere": (
        view(C4, "xen", unbound=(40, 41, 44, 45)),
        "C4 xen: leaked irqs (mapped, unbound): expected none, seen 44 45"),
    "the domain stays as a zombie": (
        view(C4, "domains", names={0: "Domain-0", A: "(null)"}),
        f"C4 toolstack: domain {A}: expected gone, seen (null)"),
    "the domain simply stays": (
        view(C4, "domains", names={0: "Domain-0", A: "maskall-a"}),
        f"C4 toolstack: domain {A}: expected gone, seen maskall-a"),
    "libxl still names the dead owner": (
        view(C4, "domains", device_owner=A),
        f"C4 toolstack: libxl's owner of the device: expected not {A}, seen {A}"),
    "the device does not go back to quarantine": (
        view(C4, "xen", owner=f"d{A}"), f"C4 xen: owner: expected DomIO, seen d{A}"),
    "Xen lost the device": (
        view(C4, "xen", owner=None), "C4 xen: owner: expected DomIO, seen not listed"),
    "MSI-X stays on after the domain": (
        view(C4, "hardware", control=MsixControl(0x8040)),
        "C4 hardware: message control: expected Enable-, seen Enable+ Masked-"),
    "memory decoding stays off after the domain": (
        view(C4, "hardware", command=CommandRegister(0)),
        "C4 hardware: COMMAND: expected Mem+, seen Mem- Bus- DisINTx-"),
    "pciback loses the device": (
        view(C4, "hardware", driver=None), "C4 hardware: driver: expected pciback, seen none"),
    "the next create gives the device to the wrong domain": (
        view(C5, "xen", owner=f"d{A}"), f"C5 xen: owner: expected d{B}, seen d{A}"),
    "memory decoding is off in the next guest": (
        view(C5, "hardware", command=CommandRegister(0)),
        "C5 hardware: COMMAND: expected Mem+, seen Mem- Bus- DisINTx-"),
    "the owner is wrong while the next guest works": (
        view(C6, "xen", owner="DomIO"), f"C6 xen: owner: expected d{B}, seen DomIO"),
    "the first guest already gets no interrupts": (
        view(C2, "guest", after=13), "C2 guest: interrupts under traffic: expected more than 0, seen 0"),
    "the first guest cannot be created": (
        action("create"), "C2 toolstack: create: expected succeeds, seen status 1: no"),
    "the next guest cannot be created": (
        action("same_guest"), "C5 toolstack: create: expected status 0, seen status 1: no"),
    "destroy fails": (action("destroy"), "C4 toolstack: destroy: expected succeeds, seen status 1: no"),
    "a fault cannot be applied": (
        action("guest_clears_enable"),
        "C3 toolstack: guest_clears_enable: expected succeeds, seen status 1: no"),
    "pciback starts with MSI-X masked": (
        view(C1, "hardware", control=MsixControl(IDLE_MASKED)),
        "C1 hardware: message control: expected Masked-, seen Enable- Masked+"),
    "pciback starts with irqs": (
        view(C1, "xen", irqs=(44,)), "C1 xen: irqs of the device: expected none, seen 44"),
    "the device is not at pciback": (
        view(C1, "hardware", driver="nvme"), "C1 hardware: driver: expected pciback, seen nvme"),
    "the device is not quarantined": (view(C1, "xen", owner="d0"), "C1 xen: owner: expected DomIO, seen d0"),
    "dom0's driver does not work at the start": (
        view(C0, "guest", after=13), "C0 guest: interrupts under traffic: expected more than 0, seen 0"),
    "dom0 does not own the device at the start": (
        view(C0, "xen", owner="DomIO"), "C0 xen: owner: expected d0, seen DomIO"),
    **{f"the device is gone at {at}": (
        gone(at), f"{at} hardware: device: expected answers, seen all bytes 0xff")
        for at in (C0, C1, C2, C3, C4, C5, C6)},
}  # fmt: skip

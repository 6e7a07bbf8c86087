"""The story of a trace: all of it for the log, the gist for a terminal."""

from __future__ import annotations

from harness.model.trace import Actor, Caller, Dom0Call, Event, Frame
from harness.report.story import gist, story

QEMU = Caller(Actor.DEVICE_MODEL, "xen-qemu-system", "physdev_op unmap_pirq")
KILL = Caller(Actor.XEN, "domain_kill", "for toolstack (xl, domctl destroydomain)")
RESET = Caller(Actor.DOM0_KERNEL, "pci_reset_function, in xl")
CHAIN = (Frame(-1, 0x1000, "unmap_domain_pirq", 0), Frame(0, 0x2000, "physdev_unmap_pirq", 0xA8))


def seen(seconds: float, what: str, caller: Caller = KILL, **more: object) -> Event:
    return Event(seconds, what, "f", caller, CHAIN, **more)  # type: ignore[arg-type]


def test_every_event_is_a_line_of_the_log() -> None:
    text = story([seen(1, "mask", irq=36), seen(2, "unmap", QEMU, domid=1, pirq=55)])
    assert [line.split()[3:5] for line in text.splitlines()] == [["mask", "irq"], ["unmap", "d1"]]


def test_vectors_that_go_the_same_way_share_a_line() -> None:
    trace = [
        seen(84.82, "unbind", domid=1, pirq=54, irq=37),
        seen(84.83, "mask", irq=37),
        seen(84.84, "unbind", domid=1, pirq=55, irq=36),
        seen(84.9, "unbind", QEMU, domid=1, pirq=22, irq=22),
        seen(85.0, "unbind", QEMU, domid=2, pirq=22, irq=22),
    ]
    assert gist(trace) == [
        "+84.8 s unbind d1 pirq 54 55 irq 37 36 by Xen (domain_kill, for toolstack (xl, domctl destroydomain))",
        "+84.9 s unbind d1 pirq 22 irq 22 by device model (xen-qemu-system, physdev_op unmap_pirq)",
        "+85.0 s unbind d2 pirq 22 irq 22 by device model (xen-qemu-system, physdev_op unmap_pirq)",
    ]


def test_decoding_is_told_when_it_changes() -> None:
    words = ("0x0103 decoding on", "0x0107 decoding on", "0x0400 decoding off", "0x0400 decoding off",
             "0x0103 decoding on")  # fmt: skip
    trace = [seen(place, "command", RESET, detail=detail) for place, detail in enumerate(words)]
    assert [row.partition(" by ")[0] for row in gist(trace)] == [
        "+0.0 s command 0x0103 decoding on",
        "+2.0 s command 0x0400 decoding off",
        "+4.0 s command 0x0103 decoding on",
    ]


def test_what_a_process_is_called_cannot_paint_the_terminal() -> None:
    caller = Caller(Actor.PROCESS, "\x1b[31mevil")
    trace = [seen(1, "unbind", caller, domid=1, dom0=Dom0Call("\x1b[31mevil", CHAIN))]
    assert "\x1b" not in story(trace) + gist(trace)[0]

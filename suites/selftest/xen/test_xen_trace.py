"""Who is behind an event, and how events are told. The chains are those of a real Xen 4.20 and Linux 6.12."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.trace import Actor, Caller, Dom0Call, Event, Frame
from harness.xen.trace.calls import attribute, completed, in_full, line, merged


def chain(words: str) -> tuple[Frame, ...]:
    return tuple(Frame(place, 0x1000 + place, name, 0x10) for place, name in enumerate(words.split()))


HYPERCALL = "do_physdev_op pv_hypercall lstar_enter"
KILL = (
    "__pirq_guest_unbind pirq_guest_unbind arch_pci_clean_pirqs pci_release_devices domain_kill do_domctl pv_hypercall"
)
SOFTIRQ = (
    "unmap_domain_pirq free_domain_pirqs arch_domain_destroy complete_domain_destroy __do_softirq process_softirqs"
)
MOVED = "msi_set_mask_bit mask_msi_irq move_native_irq ack_maskable_msi_irq do_IRQ common_interrupt"
TABLE = "msi_set_mask_bit msixtbl_write.part.0.isra.0 _msixtbl_write hvm_process_io_intercept handle_mmio"
EVTCHN = "msi_set_mask_bit arch_evtchn_bind_pirq do_event_channel_op hvm_hypercall svm_vmexit_handler svm_stgi_label"
IOCTL = "xen_hypercall_pv privcmd_ioctl __x64_sys_ioctl do_syscall_64"
SYSFS = "pci_conf1_write pci_user_write_config_word pci_write_config vfs_write __x64_sys_pwrite64 do_syscall_64"
RESET = "pci_conf1_write pci_restore_state pci_reset_function reset_store vfs_write ksys_write do_syscall_64"
PCIBACK = "pci_conf1_write pci_restore_state pcistub_put_pci_dev __xen_pcibk_release_devices ret_from_fork"
QEMU = Dom0Call("xen-qemu-system", chain(IOCTL))
XL = Dom0Call("xl", chain(IOCTL))


@pytest.mark.parametrize(
    ("xen", "running", "request_", "dom0", "expected"),
    [
        (HYPERCALL, 0, "physdev_op unmap_pirq", QEMU, "device model (xen-qemu-system, physdev_op unmap_pirq)"),
        (HYPERCALL, 0, "physdev_op unmap_pirq", replace(QEMU, process="qemu-system-i38"),
         "device model (qemu-system-i38, physdev_op unmap_pirq)"),
        (HYPERCALL, 0, "physdev_op map_pirq", XL, "toolstack (xl, physdev_op map_pirq)"),
        (HYPERCALL, 0, "physdev_op map_pirq", replace(XL, process="rpc-libvirtd"),
         "toolstack (rpc-libvirtd, physdev_op map_pirq)"),
        (HYPERCALL, 0, "domctl 7", replace(XL, process="xenstored"), "process (xenstored, domctl 7)"),
        (KILL, 0, "domctl destroydomain", XL, "Xen (domain_kill, for toolstack (xl, domctl destroydomain))"),
        (SOFTIRQ, 0, "", Dom0Call("kworker/0:2", chain("process_one_work ret_from_fork")),
         "Xen (complete_domain_destroy, when the last reference was dropped)"),
        (MOVED, 3, "", None, "Xen (interrupt)"),
        (TABLE, 3, "", None, "guest (d3, writes its vector table, emulated by Xen)"),
        (EVTCHN, 3, "", None, "guest (d3, do_event_channel_op)"),
        (HYPERCALL, 4, "physdev_op eoi", None, "guest (d4, physdev_op eoi)"),
        ("pci_conf_write_intercept pci_cfg_ok", 0, "", Dom0Call("xen-qemu-system", chain(SYSFS)),
         "device model (xen-qemu-system)"),
        ("pci_conf_write_intercept pci_cfg_ok", 0, "", Dom0Call("setpci", chain(SYSFS)), "process (setpci)"),
        ("pci_conf_write_intercept pci_cfg_ok", 0, "", Dom0Call("xl", chain(RESET)),
         "dom0 kernel (pci_reset_function, in xl)"),
        ("pci_conf_write_intercept pci_cfg_ok", 0, "", Dom0Call("xenwatch", chain(PCIBACK)),
         "dom0 kernel (pciback, in xenwatch)"),
        (HYPERCALL, 0, "physdev_op 30", Dom0Call("bash", chain("xen_hypercall_pv worker_thread")),
         "dom0 kernel (worker_thread, in bash, physdev_op 30)"),
        (HYPERCALL, 0, "", Dom0Call("?", ()), "dom0 kernel (?, in ?)"),
    ],
)  # fmt: skip
def test_callers(xen: str, running: int, request_: str, dom0: Dom0Call | None, expected: str) -> None:
    assert str(attribute(chain(xen), running, request_, dom0)) == expected


def event(what: str = "mask", **more: object) -> Event:
    base = Event(1.0, what, "msi_set_mask_bit", Caller(Actor.GUEST, "d3"), chain("msi_set_mask_bit"))
    return replace(base, **more)  # type: ignore[arg-type]


def test_repeats_are_counted() -> None:
    storm = [event(seconds=1.0 + place, irq=36, chain=(Frame(place, place, "a", 0),)) for place in range(5)]
    told = merged([*storm, event("unmask", irq=36), event(irq=36, seconds=9.0)])
    assert [(one.what, one.times, one.seconds) for one in told] == [
        ("mask", 5, 1.0),
        ("unmask", 1, 1.0),
        ("mask", 1, 9.0),
    ]


def test_what_differs_is_no_repeat() -> None:
    several = [event(irq=36), event(irq=37), event(irq=37, caller=Caller(Actor.XEN, "x")), event(irq=37, detail="y"),
               event(irq=37, detail="y", chain=chain("another way"))]  # fmt: skip
    assert len(merged(several)) == 5


def test_events_are_completed_by_what_others_said_of_the_pirq() -> None:
    told = completed(
        [
            event("map", domid=1, pirq=55, irq=36, entry=0),
            event("map", domid=1, pirq=54, irq=37, entry=1),
            event("mask", irq=36),
            event("unmap", domid=1, pirq=54),
            event("unmap", domid=2, pirq=54),
            event("mask", irq=99),
        ]
    )
    assert [one.subject for one in told] == [
        "d1 pirq 55 irq 36 entry 0",
        "d1 pirq 54 irq 37 entry 1",
        "d1 pirq 55 irq 36 entry 0",
        "d1 pirq 54 irq 37 entry 1",
        "d2 pirq 54",
        "irq 99",
    ]


def test_an_irq_that_was_given_to_another_pirq_is_told_as_that() -> None:
    told = completed(
        [
            event("map", domid=1, pirq=55, irq=36, entry=0),
            event("map", domid=2, pirq=55, irq=36, entry=3),
            event("mask", irq=36),
        ]
    )
    assert told[-1].subject == "d2 pirq 55 irq 36 entry 3"


def test_a_line_and_its_evidence() -> None:
    one = event("unbind", seconds=84.824, domid=1, pirq=54, irq=37, entry=1, times=3, dom0=XL)
    assert line(one) == (
        "+  84.82 s  unbind     d1 pirq 54 irq 37 entry 1                            by guest (d3)  x3"
    )
    assert in_full([one]).splitlines()[1:] == [
        "    Xen   msi_set_mask_bit+0x10",
        "    dom0  xl: xen_hypercall_pv+0x10 < privcmd_ioctl+0x10 < __x64_sys_ioctl+0x10 < do_syscall_64+0x10",
    ]

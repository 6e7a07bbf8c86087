"""What becomes of a device's interrupts in Xen, and who asked for it: events and their callers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.model.trace import Actor, Caller, Dom0Call, Event, Frame, _names

_OWN_TIME = {  # what Xen does when it finds the time, whoever runs on the CPU
    "complete_domain_destroy": "complete_domain_destroy, when the last reference was dropped",
    "do_softirq": "softirq",
    "__do_softirq": "softirq",
    "do_tasklet": "tasklet",
    "do_IRQ": "interrupt",
}
_OWN_WAY = ("domain_kill", "deassign_device", "assign_device", "domain_relinquish_resources")
_EMULATED = "msixtbl_write"
_BY_PROCESS = ("privcmd_ioctl", "pci_write_config")  # a process calls Xen by libxc, or writes config space by sysfs
_PCIBACK = ("xen_pcibk_", "__xen_pcibk_", "pcistub_")
_DEVICE_MODELS = ("qemu-system", "xen-qemu-system")
_TOOLSTACKS = ("xl", "libxl", "libvirt", "rpc-")


def attribute(chain: Sequence[Frame], running: int | None, request: str, dom0: Dom0Call | None) -> Caller:
    """The caller of what Xen does at the head of `chain`, while a vcpu of domain `running` is current.

    `dom0` is given where dom0 called Xen; an HVM guest's access to its device's config space reaches Xen from the
    device model, which cannot be told from what the device model does for itself.
    """
    names = {frame.symbol.partition(".")[0] for frame in chain}
    for function, words in _OWN_TIME.items():
        if function in names:
            return Caller(Actor.XEN, words)
    if dom0 is not None:
        asker = _dom0_caller(dom0, request)
    else:  # an HVM guest's hypercall shows in the chain alone
        called = next((name for name in _names(chain) if name.startswith("do_")), "")
        asker = Caller(Actor.GUEST, f"d{running}", request or called)
    for function in _OWN_WAY:
        if function in names:
            return Caller(Actor.XEN, function, f"for {asker}")
    if asker.actor is Actor.GUEST and any(name.startswith(_EMULATED) or name == f"_{_EMULATED}" for name in names):
        return replace(asker, request="writes its vector table, emulated by Xen")
    return asker


def _dom0_caller(dom0: Dom0Call, request: str) -> Caller:
    names = _names(dom0.chain)
    if any(name.startswith(_PCIBACK) for name in names):
        return Caller(Actor.DOM0_KERNEL, f"pciback, in {dom0.process}", request)
    if any(name in _BY_PROCESS for name in names):
        return Caller(_kind_of(dom0.process), dom0.process, request)
    # the outermost of the PCI core's functions says most about the kernel's reason, else the one that called Xen
    core = [name for name in names if name.startswith(("pci_", "pcie_"))]
    callers = [name for name in names if not name.startswith("xen_hypercall")]
    part = core[-1] if core else (callers or ["?"])[0]
    return Caller(Actor.DOM0_KERNEL, f"{part}, in {dom0.process}", request)


def _kind_of(process: str) -> Actor:
    if process.startswith(_DEVICE_MODELS):
        return Actor.DEVICE_MODEL
    return Actor.TOOLSTACK if process.startswith(_TOOLSTACKS) else Actor.PROCESS


def merged(events: Iterable[Event]) -> list[Event]:
    """Repeats in a row as one event with a count: drivers mask and unmask in storms."""
    kept: list[Event] = []
    for event in events:
        if kept and kept[-1].same_as(event):
            kept[-1] = replace(kept[-1], times=kept[-1].times + event.times)
        else:
            kept.append(event)
    return kept


def completed(events: Iterable[Event]) -> list[Event]:
    """Events with what others know about the same pirq: a map names all, an unmap only domain and pirq."""
    known: dict[tuple[int | None, int | None], Event] = {}
    owners: dict[int, Event] = {}
    told: list[Event] = []
    for event in events:
        if event.pirq is None and event.irq in owners:
            about = owners[event.irq]
            event = replace(event, domid=about.domid, pirq=about.pirq)
        about = known.get((event.domid, event.pirq), event)
        event = replace(
            event,
            irq=about.irq if event.irq is None else event.irq,
            entry=about.entry if event.entry is None else event.entry,
        )
        told.append(event)
        if event.pirq is not None and event.domid is not None:
            known[event.domid, event.pirq] = event
            if event.irq is not None:
                owners[event.irq] = event
    return told


def line(event: Event) -> str:
    """When, what, to which interrupt, by whom, how often."""
    often = f"  x{event.times}" if event.times > 1 else ""
    return f"+{event.seconds:7.2f} s  {event.what:10} {event.subject:29} {event.detail:22} by {event.caller}{often}"


def in_full(events: Iterable[Event]) -> str:
    """Every line with the call chains below it: what is kept as evidence."""
    lines: list[str] = []
    for event in events:
        lines += [line(event), f"    Xen   {' < '.join(str(frame) for frame in event.chain)}"]
        if event.dom0 is not None:
            lines.append(f"    dom0  {event.dom0.process}: {' < '.join(str(frame) for frame in event.dom0.chain)}")
    return "".join(f"{line}\n" for line in lines)

"""Where Xen is stopped to see what becomes of a device's interrupts, and what its arguments say there. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.base.errors import LabError
from harness.model.address import Bdf
from harness.xen.trace.structures import Entered, Structures, Vector, sbdf
from harness.xen.trace.symbols import SymbolTable

_MSI_TYPES = (0, 4)  # MAP_PIRQ_TYPE_MSI, _MULTI_MSI; public/physdev.h
_COMMAND, _COMMAND_MEMORY = 4, 0x2
_FLAGS = 2  # of message control in the MSI-X capability


@dataclass(frozen=True)
class TraceState:
    """What the arguments at a tracepoint say. `ours`: whether it is about the device; None where that is not said."""

    what: str
    domid: int | None = None
    pirq: int | None = None
    irq: int | None = None
    entry: int | None = None
    detail: str = ""
    ours: bool | None = None


@dataclass(frozen=True)
class StopContext:
    """What decoding needs besides the registers."""

    xen: Structures
    device: Bdf
    msix_offset: int | None  # of the device's MSI-X capability in config space

    def vector(self, vector: Vector | None) -> tuple[int | None, bool | None]:
        return (vector.entry, self.xen.is_device(vector.pci_dev, self.device)) if vector else (None, None)


Arguments = tuple[int, int, int, int, int, int]  # of the function, as registers hold them
Decoder = Callable[[StopContext, Arguments], TraceState | None]  # None: about something else, as cheap as that


@dataclass(frozen=True)
class Tracepoint:
    """`functions`: the same thing's names in the versions of Xen; the first that exists is stopped at."""

    functions: tuple[str, ...]
    decode: Decoder


def _map(context: StopContext, args: Arguments) -> TraceState | None:
    domain, pirq, irq, kind, data, _ = args
    entry, ours = None, None
    if kind in _MSI_TYPES and data:
        raw = context.xen.read(data, 12)  # struct msi_info, asm/msi.h: the device, irq, entry_nr
        ours = _is(raw[:4], context.device)
        entry = int.from_bytes(raw[8:12], "little")
    return TraceState("map", context.xen.domid(domain), _int(pirq), _int(irq), entry, "" if data else "GSI", ours)


def _unmap(context: StopContext, args: Arguments) -> TraceState:
    return TraceState("unmap", context.xen.domid(args[0]), _int(args[1]))


def _bind(context: StopContext, args: Arguments) -> TraceState:
    return TraceState("bind", context.xen.domid_of_vcpu(args[0]), context.xen.pirq(args[1]))


def _unbind(context: StopContext, args: Arguments) -> TraceState:
    irq = context.xen.irq_of_desc(args[2])  # __pirq_guest_unbind alone has it
    entry, ours = context.vector(context.xen.vector_of_irq(irq) if irq else None)
    return TraceState("unbind", context.xen.domid(args[0]), context.xen.pirq(args[1]), irq, entry, ours=ours)


def _hvm_bind(what: str) -> Decoder:
    def decode(context: StopContext, args: Arguments) -> TraceState:
        return TraceState(
            what, context.xen.domid(args[0]), context.xen.word(args[1], 4)
        )  # xen_domctl_bind_pt_irq.machine_irq

    return decode


def _mask(context: StopContext, args: Arguments) -> TraceState:
    irq = context.xen.irq_of_desc(args[0])
    entry, ours = context.vector(context.xen.vector_of_irq(irq) if irq else None)
    host, guest = args[1] & 0xFF, args[2] & 0xFF
    what = "mask" if host or guest else "unmask"
    return TraceState(what, irq=irq, entry=entry, detail=f"host {host} guest {guest}", ours=ours)


def _maskall(context: StopContext, args: Arguments) -> TraceState:
    return TraceState("maskall", detail="vector table out of reach")


def _disable(context: StopContext, args: Arguments) -> TraceState:
    vector = context.xen.vector(args[0])
    entry, ours = context.vector(vector)
    return TraceState("disable", irq=vector.irq if vector else None, entry=entry, detail="masks the entry", ours=ours)


def _reset_msix(context: StopContext, args: Arguments) -> TraceState:
    return TraceState("reset", detail="host_maskall := 0", ours=context.xen.is_device(args[0], context.device))


def _prepare_msix(context: StopContext, args: Arguments) -> TraceState | None:
    by_value = args[0] & 0xFFFFFFFF == sbdf(context.device)  # newer
    by_parts = (args[0] & 0xFFFF) << 16 | (args[1] & 0xFF) << 8 | args[2] & 0xFF == sbdf(context.device)
    if not (by_value or by_parts):
        return None
    off = args[1] if by_value and not by_parts else args[3]
    return TraceState("release" if off & 0xFF else "prepare", detail="MSI-X of the device", ours=True)


def _config_write(context: StopContext, args: Arguments) -> TraceState | None:
    segment, bdf, register, size, data, _ = args
    if segment << 16 | bdf != sbdf(context.device):
        return None
    value = int.from_bytes(context.xen.read(data, size & 7), "little")
    if register == _COMMAND:
        decoding = "on" if value & _COMMAND_MEMORY else "off"
        return TraceState("command", detail=f"{value & 0xFFFF:#06x} decoding {decoding}", ours=True)
    if context.msix_offset is not None and register == context.msix_offset + _FLAGS:
        on, masked = ("+" if value & bit else "-" for bit in (0x8000, 0x4000))
        return TraceState("control", detail=f"{value & 0xFFFF:#06x} Enable{on} Masked{masked}", ours=True)
    return None


def _domain_kill(context: StopContext, args: Arguments) -> TraceState:
    return TraceState("kill", context.xen.domid(args[0]))


TRACEPOINTS = (
    Tracepoint(("map_domain_pirq",), _map),
    Tracepoint(("pirq_guest_bind",), _bind),
    Tracepoint(("pt_irq_create_bind",), _hvm_bind("hvm bind")),
    Tracepoint(("pt_irq_destroy_bind",), _hvm_bind("hvm unbind")),
    Tracepoint(("__pirq_guest_unbind", "pirq_guest_unbind"), _unbind),
    Tracepoint(("unmap_domain_pirq",), _unmap),
    Tracepoint(("msi_set_mask_bit",), _mask),
    Tracepoint(("msi_set_mask_bit.cold",), _maskall),
    Tracepoint(("pci_disable_msi",), _disable),
    Tracepoint(("pci_reset_msix_state",), _reset_msix),
    Tracepoint(("pci_prepare_msix",), _prepare_msix),
    Tracepoint(("pci_conf_write_intercept",), _config_write),
    Tracepoint(("domain_kill",), _domain_kill),
)


def placed(symbols: SymbolTable) -> dict[int, tuple[str, Tracepoint]]:
    """The tracepoints of this Xen by address, with the function's name. Those it has not (inlined) are left out."""
    found: dict[int, tuple[str, Tracepoint]] = {}
    for point in TRACEPOINTS:
        for name in point.functions:
            try:
                found[symbols.address_of(name)] = (name, point)
            except LabError:
                continue
            break
    return found


_HYPERCALLS = {
    18: "multicall",
    32: "event_channel_op",
    33: "physdev_op",
    34: "hvm_op",
    35: "sysctl",
    36: "domctl",
    41: "dm_op",
}
_PHYSDEV = {
    12: "eoi", 13: "map_pirq", 14: "unmap_pirq", 15: "manage_pci_add", 16: "manage_pci_remove", 19: "restore_msi",
    25: "pci_device_add", 26: "pci_device_remove", 27: "restore_msi_ext", 30: "prepare_msix", 31: "release_msix",
    32: "pci_device_reset",
}  # fmt: skip
_DOMCTL = {
    2: "destroydomain", 37: "assign_device", 38: "bind_pt_irq", 47: "deassign_device", 48: "unbind_pt_irq",
}  # fmt: skip


def request(entered: Entered, xen: Structures) -> str:
    """What a hypercall asks, in the words of the public headers (physdev.h, domctl.h); empty when it is none."""
    number = entered.hypercall
    if number is None:
        return ""
    name = _HYPERCALLS.get(number, f"hypercall {number}")
    if name == "physdev_op":
        return f"{name} {_PHYSDEV.get(entered.rdi, entered.rdi)}"
    if name == "domctl":
        command = xen.word(entered.rdi, 4)
        return f"{name} {_DOMCTL.get(command, command)}"
    return name


def _int(register: int) -> int:
    """A C int passed in a register."""
    low = register & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _is(raw: bytes, device: Bdf) -> bool:
    """Whether these four bytes are the device: as pci_sbdf_t (newer), or segment, bus, devfn one after the other."""
    old = device.segment.to_bytes(2, "little") + bytes([device.bus, device.device << 3 | device.function])
    return raw in (old, sbdf(device).to_bytes(4, "little"))

"""What arguments say at a tracepoint, in the calling conventions of several versions; and dom0's Linux beside it."""

from __future__ import annotations

import pytest

from harness.base.errors import LabError, ParseError
from harness.model.address import Bdf
from harness.transport.debugger import Registers
from harness.xen.trace.linux import Dom0, parse_kallsyms
from harness.xen.trace.structures import Entered, Structures
from harness.xen.trace.symbols import SymbolTable, parse_xensyms
from harness.xen.trace.tracepoints import TRACEPOINTS, StopContext, TraceState, placed, request

DEVICE = Bdf.parse("0000:02:00.0")
DATA = 0xFFFF830012345000
POINTS = {point.functions[0]: point for point in TRACEPOINTS}


class Memory:
    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}

    def put(self, address: int, data: bytes) -> None:
        self.bytes |= {address + place: byte for place, byte in enumerate(data)}

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.bytes.get(address + place, 0) for place in range(length))


def xensyms(*functions: str) -> SymbolTable:
    lines = [f"{0xFFFF82D040200000 + 0x100 * place:016x} t a.c#{name}" for place, name in enumerate(functions)]
    return parse_xensyms("\n".join([*lines, "ffff82d040300000 t a.c#last"]))


def decode(function: str, memory: Memory, device: Bdf = DEVICE, **registers: int) -> TraceState | None:
    context = StopContext(Structures(xensyms("a"), memory.read), device, msix_offset=0xB0)
    return POINTS[function].decode(context, Registers(rip=0, rsp=0, **registers).arguments)


def config(register: int, value: int, *, size: int = 2, bdf: int = 0x0200, segment: int = 0) -> TraceState | None:
    memory = Memory()
    memory.put(DATA, value.to_bytes(4, "little"))
    return decode("pci_conf_write_intercept", memory, rdi=segment, rsi=bdf, rdx=register, rcx=size, r8=DATA)


@pytest.mark.parametrize(
    ("register", "value", "what", "detail"),
    [
        (4, 0x0400, "command", "0x0400 decoding off"),
        (4, 0x0507, "command", "0x0507 decoding on"),
        (0xB2, 0xC001, "control", "0xc001 Enable+ Masked+"),
        (0xB2, 0x0001, "control", "0x0001 Enable- Masked-"),
    ],
)
def test_config_writes(register: int, value: int, what: str, detail: str) -> None:
    seen = config(register, value)
    assert seen is not None and (seen.what, seen.detail, seen.ours) == (what, detail, True)


def test_config_writes_to_other_registers_and_devices() -> None:
    assert config(0x10, 0xFE000000, size=4) is None
    assert config(4, 0x0400, bdf=0x0208) is None
    assert config(4, 0x0400, segment=1) is None


@pytest.mark.parametrize("device", ["0000:02:00.0", "0001:04:03.1"])
def test_prepare_and_release(device: str) -> None:
    """By segment, bus and devfn until Xen 4.17; newer ones pass one pci_sbdf_t."""
    at = Bdf.parse(device)
    devfn = at.device << 3 | at.function
    sbdf = at.segment << 16 | at.bus << 8 | devfn
    for off, what in ((0, "prepare"), (1, "release")):
        old = decode("pci_prepare_msix", Memory(), at, rdi=at.segment, rsi=at.bus, rdx=devfn, rcx=off)
        new = decode("pci_prepare_msix", Memory(), at, rdi=sbdf, rsi=off)
        assert old is not None and new is not None and (old.what, new.what) == (what, what)
    assert decode("pci_prepare_msix", Memory(), at, rdi=9, rsi=9, rdx=9) is None


@pytest.mark.parametrize("device", [bytes([0x00, 0x02, 0, 0]), bytes([0, 0, 0x02, 0x00])])
def test_a_map_names_the_device_in_two_ways(device: bytes) -> None:
    memory = Memory()
    memory.put(DATA, device + (36).to_bytes(4, "little") + (1).to_bytes(4, "little"))
    memory.put(DATA + 0x1000, (3).to_bytes(2, "little"))
    seen = decode("map_domain_pirq", memory, rdi=DATA + 0x1000, rsi=54, rdx=36, rcx=0, r8=DATA)
    assert seen == TraceState("map", 3, 54, 36, 1, "", True)


def test_a_map_of_a_line_interrupt_and_of_another_device() -> None:
    memory = Memory()
    assert decode("map_domain_pirq", memory, rdi=DATA, rsi=22, rdx=0xFFFFFFFF, rcx=1) == TraceState(
        "map", 0, 22, -1, detail="GSI"
    )
    memory.put(DATA, bytes([0x00, 0x03, 0, 0]))
    other = decode("map_domain_pirq", memory, rdi=DATA, rsi=54, rdx=36, rcx=4, r8=DATA)
    assert other is not None and other.ours is False


def test_the_first_function_that_exists_is_stopped_at() -> None:
    both = placed(xensyms("__pirq_guest_unbind", "pirq_guest_unbind", "map_domain_pirq"))
    assert sorted(name for name, _ in both.values()) == ["__pirq_guest_unbind", "map_domain_pirq"]
    assert [name for name, _ in placed(xensyms("pirq_guest_unbind")).values()] == ["pirq_guest_unbind"]


@pytest.mark.parametrize(
    ("rax", "rdi", "expected"),
    [
        (33, 14, "physdev_op unmap_pirq"),
        (33, 99, "physdev_op 99"),
        (36, DATA, "domctl destroydomain"),
        (29, 1, "hypercall 29"),
    ],
)
def test_requests(rax: int, rdi: int, expected: str) -> None:
    memory = Memory()
    memory.put(DATA, (2).to_bytes(4, "little"))
    xen = Structures(xensyms("a"), memory.read)
    assert request(Entered(0, True, 0, 0, rax, rdi, 0x100), xen) == expected
    assert request(Entered(0, True, 0, 0, rax, rdi, 13), xen) == "", "a trap is no hypercall"
    assert request(Entered(0, False, 0, 0, rax, rdi, 0x100), xen) == "", "nor is a VM exit"


KALLSYMS = """\
00000000000351c0 A pcpu_hot
ffffffff81000000 T _stext
ffffffff81000000 T startup_64
ffffffff81000100 T xen_hypercall_pv
ffffffff81000200 t vfs_write
ffffffff82000000 T _etext
ffffffff82c10940 D init_task
ffffffff82c20000 D something_else
ffffffffc0559bd0 t privcmd_ioctl\t[xen_privcmd]
ffffffffc0559c00 t last\t[xen_privcmd]
"""
GS = 0xFFFF88803E600000
TASK = 0xFFFF888005500000


def linux(memory: Memory, text: str = KALLSYMS) -> Dom0:
    memory.put(0xFFFFFFFF82C10940 + 2976, b"swapper/0\0")
    memory.put(GS + 0x351C0, TASK.to_bytes(8, "little"))
    memory.put(TASK + 2976, b"xen-qemu-system\0")
    return Dom0(parse_kallsyms(text), memory.read)


def test_the_process_that_runs_in_dom0() -> None:
    dom0 = linux(Memory())
    assert dom0.process((GS, 0)) == "xen-qemu-system"
    assert dom0.process((0x7F0000001000, GS)) == "xen-qemu-system", "in user mode the kernel's is the other one"
    assert dom0.process((0, 0)) == "?"


def test_older_kernels_call_it_current_task() -> None:
    assert linux(Memory(), KALLSYMS.replace("pcpu_hot", "current_task")).process((GS, 0)) == "xen-qemu-system"
    with pytest.raises(LabError, match="has none of pcpu_hot, current_task"):
        linux(Memory(), KALLSYMS.replace("pcpu_hot", "pcpu_cold")).process((GS, 0))


def test_a_kernel_whose_first_task_is_not_found() -> None:
    memory = Memory()
    dom0 = linux(memory)
    memory.put(0xFFFFFFFF82C10940 + 2976, b"something")
    with pytest.raises(LabError, match="not called swapper"):
        dom0.process((GS, 0))


def test_chains_go_through_modules() -> None:
    memory = Memory()
    rsp = 0xFFFFC90000123F00
    inside = 0xFFFFFFFFC0559BD0 + 0x20
    memory.put(inside - 5, b"\xe8" + ((0xFFFFFFFF81000100 - inside) % (1 << 32)).to_bytes(4, "little"))
    memory.put(rsp, (0xFFFFFFFF81000210).to_bytes(8, "little"))  # r11 and rcx may hold anything
    memory.put(rsp + 16, inside.to_bytes(8, "little"))
    dom0 = linux(memory)
    assert [frame.symbol for frame in dom0.chain(0xFFFFFFFF81000109, rsp)] == ["xen_hypercall_pv", "privcmd_ioctl"]
    assert dom0.chain(0x7F0000001234, 0x7F0000002000) == (), "a process has no kernel stack in use"


@pytest.mark.parametrize("bad", ["nonsense", "ffffffff81000000 T", "0000000000000000 T startup_64", ""])
def test_kallsyms_that_are_none(bad: str) -> None:
    with pytest.raises(ParseError):
        parse_kallsyms(bad)

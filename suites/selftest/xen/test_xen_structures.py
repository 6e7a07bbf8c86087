"""Xen's structures in a make-believe memory: found where they are, None or an error where they are not."""

from __future__ import annotations

import pytest

from harness.base.errors import LabError
from harness.model.address import Bdf
from harness.xen.trace.structures import Entered, Structures, sbdf
from harness.xen.trace.symbols import parse_xensyms

DEVICE = Bdf.parse("0000:02:00.0")
IDLE_VCPU, IRQ_DESC = 0xFFFF82D040463040, 0xFFFF82D04046A5B0
HEAP = 0xFFFF83009A000000
STACK = HEAP + 0x8000
TABLE = parse_xensyms(
    f"ffff82d040200000 T _stext\nffff82d040200010 T entry\n{IDLE_VCPU:x} D idle_vcpu\n{IRQ_DESC:x} D irq_desc"
)


class Memory:
    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}

    def put(self, address: int, value: int, size: int = 8) -> None:
        self.bytes |= {address + place: byte for place, byte in enumerate(value.to_bytes(size, "little"))}

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.bytes.get(address + place, 0) for place in range(length))

    @property
    def xen(self) -> Structures:
        return Structures(TABLE, self.read)


def domain(memory: Memory, domid: int) -> int:
    address = HEAP + 0x100000 + 0x1000 * domid
    memory.put(address, domid, 2)
    return address


@pytest.mark.parametrize("offset", [16, 24])  # Xen 4.14 and 4.17; 4.20
def test_a_vcpus_domain(offset: int) -> None:
    memory = Memory()
    memory.put(IDLE_VCPU, HEAP)
    memory.put(HEAP + 8, HEAP + 0x5000)  # vcpu_info points to a whole page too
    memory.put(HEAP + offset, domain(memory, 0x7FFF))
    memory.put(HEAP + 0x400 + offset, domain(memory, 3))
    assert memory.xen.domid_of_vcpu(HEAP + 0x400) == 3


def test_a_vcpu_without_domain() -> None:
    with pytest.raises(LabError, match="struct vcpu of this Xen shows no domain"):
        Memory().xen.domid_of_vcpu(HEAP)


def descs(memory: Memory, size: int = 0x100, count: int = 64) -> int:
    memory.put(IRQ_DESC, HEAP)
    for irq in range(count):
        memory.put(HEAP + size * irq + 32, irq, 4)
    return HEAP


def msi(memory: Memory, irq: int, entry: int, dev_at: int, size: int = 0x100) -> int:
    address = HEAP + 0x40000 + 0x100 * irq
    memory.put(address, 0x11, 1)
    memory.put(address + 4, entry, 2)
    memory.put(address + dev_at - 8, irq, 4)  # a number that looks like the irq, but has no device before it
    memory.put(address + dev_at, HEAP + 0x80000)
    memory.put(address + dev_at + 8, irq, 4)
    memory.put(HEAP + size * irq + 16, address)
    return address


@pytest.mark.parametrize("size", [0x80, 0x100, 0x180])
def test_irqs_and_their_vectors(size: int) -> None:
    memory = Memory()
    base = descs(memory, size)
    address = msi(memory, 44, 3, 56, size)
    xen = memory.xen
    assert xen.irq_of_desc(base + 44 * size) == 44
    assert xen.irq_of_desc(base + 44 * size + 8) is None
    assert xen.irq_of_desc(base - size) is None
    found = xen.vector(address)
    assert found is not None and (found.entry, found.irq) == (3, 44)
    assert xen.vector_of_irq(44) == found
    assert xen.vector_of_irq(45) is None, "no descriptor"
    assert xen.vector_of_irq(100) is None, "no irq"
    assert xen.vector(HEAP + 0x70000) is None, "no irq names it"


def test_irqs_of_an_unknown_layout() -> None:
    memory = Memory()
    memory.put(IRQ_DESC, HEAP)
    with pytest.raises(LabError, match="struct irq_desc of this Xen does not show its irq"):
        memory.xen.irq_of_desc(HEAP)


def test_whose_device() -> None:
    memory = Memory()
    memory.put(HEAP + 64, sbdf(DEVICE), 4)
    assert memory.xen.is_device(HEAP, DEVICE)
    assert not memory.xen.is_device(HEAP, Bdf.parse("0000:02:00.1"))
    assert sbdf(Bdf.parse("0001:04:1f.7")) == 0x000104FF


def frame(memory: Memory, *, cs: int, trap: int, top: int = STACK + 0x8000) -> None:
    """struct cpu_info as Xen 4.20 has it: cpu_user_regs 0x108 below the top of the stack."""
    regs = top - 0x108
    for word, value in {10: 33, 14: 14, 15: trap << 32, 16: 0xFFFFFFFF81D0E069, 17: cs, 19: 0xFFFFC90000000000}.items():
        memory.put(regs + 8 * word, value)
    memory.put(top - 0x40, 0xE010 << 32 | 1)
    memory.put(top - 0x38, HEAP + 0x400)


def test_how_xen_was_entered() -> None:
    memory = Memory()
    frame(memory, cs=0x0001E033, trap=0x100)
    seen = memory.xen.entered(STACK + 0x7000)
    assert seen == Entered(HEAP + 0x400, True, 0xFFFFFFFF81D0E069, 0xFFFFC90000000000, 33, 14, 0x100)
    assert seen.hypercall == 33
    frame(memory, cs=0xE033, trap=13)
    trapped = memory.xen.entered(STACK + 0x10)
    assert trapped is not None and trapped.pv and trapped.hypercall is None
    frame(memory, cs=0x10, trap=0x100)
    hvm = memory.xen.entered(STACK + 0x7FFF)
    assert hvm is not None and not hvm.pv and hvm.hypercall is None


def test_a_stack_without_cpu_info() -> None:
    assert Memory().xen.entered(STACK + 8) is None

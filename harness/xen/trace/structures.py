"""Xen's own structures in a stopped machine: who runs, which irq, which device. Pure: reading is handed in.

Offsets differ from version to version and a release carries no debug information, so each is found by, or checked
against, something that can be right in one place only. What cannot be found is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from harness.base.errors import LabError
from harness.model.address import Bdf
from harness.xen.trace.frames import Read, words_of
from harness.xen.trace.symbols import SymbolTable

STACK_SIZE = 0x8000  # of one CPU, and its alignment; asm/config.h
_DS32 = 0xE010  # __HYPERVISOR_DS32: `verw_sel` in struct cpu_info, between the CPU's number and its current vcpu
_REGS = 25  # words of struct cpu_user_regs, in front of that
_RAX, _RDI, _TRAP, _RIP, _CS, _RSP = 10, 14, 15, 16, 17, 19  # words in it
_KERNEL_CS = 0xE033  # FLAT_RING3_CS64: of a 64-bit PV guest, its kernel and its processes
_SYSCALL = 0x100  # TRAP_syscall: a hypercall, when it comes from the kernel
_DOMID_IDLE = 0x7FFF
_DESC_MSI, _DESC_IRQ = 16, 32  # struct irq_desc, xen/irq.h
_DESC_SIZES = range(64, 1025, 64)  # it is aligned to cache lines
_ENTRY_NR = 4  # struct msi_desc, asm/msi.h: msi_attrib.entry_nr
_MSI_SEARCH = range(24, 128, 8)  # where its `dev` may be; `irq` follows
_PDEV_SEARCH = range(48, 128, 4)  # where sbdf may be in struct pci_dev, xen/pci.h


@dataclass(frozen=True)
class Entered:
    """How Xen was entered on a CPU: whose vcpu is current, and the registers it had."""

    vcpu: int
    pv: bool
    rip: int
    rsp: int
    rax: int
    rdi: int
    trap: int

    @property
    def hypercall(self) -> int | None:
        """The number of the hypercall (public/xen.h); None when Xen was entered for another reason."""
        return self.rax if self.pv and self.trap == _SYSCALL else None


@dataclass(frozen=True)
class Vector:
    """An MSI or MSI-X descriptor: its entry in the device's table, its irq, and the address of its struct pci_dev."""

    entry: int
    irq: int
    pci_dev: int


@dataclass(frozen=True)
class Structures:
    symbols: SymbolTable
    read: Read

    def word(self, address: int, size: int = 8) -> int:
        return int.from_bytes(self.read(address, size), "little")

    def entered(self, rsp: int) -> Entered | None:
        """From struct cpu_info at the top of the stack that `rsp` is on."""
        top = rsp - rsp % STACK_SIZE + STACK_SIZE
        words = words_of(self.read(top - 0x200, 0x200))
        for place in range(len(words) - 2, _REGS - 1, -1):
            if words[place] >> 32 == _DS32:
                regs = words[place - _REGS : place]
                return Entered(
                    vcpu=words[place + 1],
                    pv=regs[_CS] & 0xFFFF == _KERNEL_CS,
                    rip=regs[_RIP],
                    rsp=regs[_RSP],
                    rax=regs[_RAX],
                    rdi=regs[_RDI],
                    trap=regs[_TRAP] >> 32,
                )
        return None

    def domid(self, domain: int) -> int:
        """struct domain begins with it."""
        return self.word(domain, 2)

    def pirq(self, pirq: int) -> int:
        """struct pirq begins with its number."""
        return self.word(pirq, 4)

    def domid_of_vcpu(self, vcpu: int) -> int:
        return self.domid(self.word(vcpu + self._domain_of_vcpu))

    @cached_property
    def _domain_of_vcpu(self) -> int:
        """Where struct vcpu points to its domain: in the idle vcpu that is the one called DOMID_IDLE; a whole page."""
        idle = self.word(self.symbols.address_of("idle_vcpu"))
        for offset in range(8, 64, 8):
            domain = self.word(idle + offset)
            if domain >> 47 == 0x1FFFF and domain % 0x1000 == 0 and self.domid(domain) == _DOMID_IDLE:
                return offset
        raise LabError("struct vcpu of this Xen shows no domain", hint="trace cannot tell domains on this version")

    @cached_property
    def _descs(self) -> tuple[int, int]:
        """The array of struct irq_desc and the size of one: each knows its own number."""
        base = self.word(self.symbols.address_of("irq_desc"))
        for size in _DESC_SIZES:
            if all(self.word(base + size * irq + _DESC_IRQ, 4) == irq for irq in range(6)):
                return base, size
        raise LabError(
            "struct irq_desc of this Xen does not show its irq", hint="trace cannot tell irqs on this version"
        )

    def irq_of_desc(self, desc: int) -> int | None:
        base, size = self._descs
        irq, rest = divmod(desc - base, size)
        return irq if rest == 0 and 0 <= irq < 0x10000 and self.word(desc + _DESC_IRQ, 4) == irq else None

    def vector_of_irq(self, irq: int) -> Vector | None:
        base, size = self._descs
        desc = base + size * irq
        if self.irq_of_desc(desc) != irq:
            return None
        msi = self.word(desc + _DESC_MSI)
        return self._vector(msi) if msi else None

    def vector(self, msi: int) -> Vector | None:
        """The descriptor at `msi`, which some irq must name as its own."""
        seen = self._vector(msi)
        return seen if seen and self._names(seen.irq, msi) else None

    def _vector(self, msi: int) -> Vector | None:
        raw = self.read(msi, _MSI_SEARCH.stop + 16)
        for at in _MSI_SEARCH:
            irq = int.from_bytes(raw[at + 8 : at + 12], "little")
            if 0 < irq < 0x1000 and self._names(irq, msi):
                return Vector(
                    entry=int.from_bytes(raw[_ENTRY_NR : _ENTRY_NR + 2], "little"),
                    irq=irq,
                    pci_dev=int.from_bytes(raw[at : at + 8], "little"),
                )
        return None

    def _names(self, irq: int, msi: int) -> bool:
        base, size = self._descs
        return self.word(base + size * irq + _DESC_MSI) == msi

    def is_device(self, pci_dev: int, device: Bdf) -> bool:
        raw = self.read(pci_dev, _PDEV_SEARCH.stop)
        return any(int.from_bytes(raw[at : at + 4], "little") == sbdf(device) for at in _PDEV_SEARCH)


def sbdf(device: Bdf) -> int:
    """As pci_sbdf_t holds it."""
    return device.segment << 16 | device.bus << 8 | device.device << 3 | device.function

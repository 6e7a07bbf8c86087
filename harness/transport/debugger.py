"""Optional powers of a host: reading its physical memory, and a debugger that can stop its hypervisor.

A lab machine has neither; the nested host has both. Scenarios ask for them by name and are skipped where
they are missing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from harness.base.deadline import Deadline


class PhysicalMemory(Protocol):
    """Reads the host's physical address space from outside, without stopping it."""

    def read_words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` 32-bit words at physical `address` (memory or a device's BAR)."""
        ...


@dataclass(frozen=True)
class Registers:
    """The registers of a stopped CPU (x86-64): where it is, what its caller passed, whose memory it sees."""

    rip: int
    rsp: int
    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    rbp: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    cr3: int = 0
    fs_base: int = 0
    gs_base: int = 0
    k_gs_base: int = 0

    @property
    def arguments(self) -> tuple[int, int, int, int, int, int]:
        """The first six arguments at a function's entry (System V ABI, which Xen and Linux follow)."""
        return self.rdi, self.rsi, self.rdx, self.rcx, self.r8, self.r9


@dataclass(frozen=True)
class Stop:
    """Why the machine stands: at a breakpoint (`registers.rip`), or just behind a write to the address `written`."""

    registers: Registers
    written: int | None = None


class StoppedMachine(Protocol):
    """A machine whose CPUs all stand still. It runs again when the session ends, whatever happens."""

    def read(self, address: int, length: int) -> bytes:
        """Hypervisor virtual memory as the current CPU maps it."""
        ...

    def write(self, address: int, data: bytes) -> None: ...

    def read_physical(self, address: int, length: int) -> bytes: ...

    def write_physical(self, address: int, data: bytes) -> None: ...

    def break_at(self, address: int) -> None: ...

    def clear(self, address: int) -> None: ...

    def watch(self, address: int, length: int) -> None:
        """Stop behind every write to these bytes of virtual memory (1, 2, 4 or 8, aligned)."""
        ...

    def unwatch(self, address: int, length: int) -> None: ...

    def go(self) -> None:
        """Let the machine run until `wait` reports a stop. A breakpoint that was just reported is stepped over."""
        ...

    def wait(self, deadline: Deadline) -> Stop | None:
        """Where the CPU that met a breakpoint or a watched write stands; None when the deadline came first."""
        ...

    def stop(self) -> None:
        """Stop a machine that runs after `go`."""
        ...


class Debugger(Protocol):
    def attach(self) -> AbstractContextManager[StoppedMachine]:
        """Stop the machine; breakpoints are removed and the machine runs again at the end."""
        ...

"""Optional powers of a host: reading its physical memory, and a debugger that can stop its hypervisor.

A lab machine has neither; the nested host has both. Scenarios ask for them by name and are skipped where
they are missing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from harness.deadline import Deadline


class PhysicalMemory(Protocol):
    """Reads the host's physical address space from outside, without stopping it."""

    def read_words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` 32-bit words at physical `address` (memory or a device's BAR)."""
        ...


@dataclass(frozen=True)
class Registers:
    """The registers of a stopped CPU that tell where it is."""

    rip: int
    rsp: int


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

    def go(self) -> None:
        """Let the machine run until `wait` reports a stop."""
        ...

    def wait(self, deadline: Deadline) -> Registers | None:
        """The registers of the CPU that reached a breakpoint; None when the deadline came first."""
        ...

    def stop(self) -> None:
        """Stop a machine that runs after `go`."""
        ...


class Debugger(Protocol):
    def attach(self) -> AbstractContextManager[StoppedMachine]:
        """Stop the machine; breakpoints are removed and the machine runs again at the end."""
        ...

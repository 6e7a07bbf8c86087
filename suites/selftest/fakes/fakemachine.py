"""A make-believe stopped machine: memory in dictionaries, and a list of everything that was asked of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.transport.debugger import Stop


@dataclass
class FakeMachine:
    """`StoppedMachine` and its `Debugger`. `stops` are what `wait` gives, in order; then None for ever."""

    memory: dict[int, int] = field(default_factory=dict)  # virtual address -> byte
    physical: dict[int, int] = field(default_factory=dict)
    stops: list[Stop | None] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    breakpoints: set[int] = field(default_factory=set)
    read_only: bool = False
    attached: bool = False
    in_guest: int = 0  # so many stops from now the CPU runs an HVM guest's code, where nothing of Xen is mapped

    def put(self, address: int, data: bytes) -> None:
        self.memory |= {address + place: byte for place, byte in enumerate(data)}

    def put_physical(self, address: int, data: bytes) -> None:
        self.physical |= {address + place: byte for place, byte in enumerate(data)}

    @contextlib.contextmanager
    def attach(self) -> Iterator[FakeMachine]:
        assert not self.attached
        self.attached = True
        try:
            yield self
        finally:
            self.breakpoints.clear()
            self.attached = False

    def read(self, address: int, length: int) -> bytes:
        if self.in_guest:
            raise LabError(f"cannot read {length} bytes at {address:#x}")
        return self._read(self.memory, address, length)

    def write(self, address: int, data: bytes) -> None:
        self._write("write", address, data)
        if not self.read_only:
            self.put(address, data)

    def read_physical(self, address: int, length: int) -> bytes:
        return self._read(self.physical, address, length)

    def write_physical(self, address: int, data: bytes) -> None:
        self._write("write_physical", address, data)
        if not self.read_only:
            self.put_physical(address, data)

    def break_at(self, address: int) -> None:
        self._note(f"break {address:#x}")
        self.breakpoints.add(address)

    def clear(self, address: int) -> None:
        self._note(f"clear {address:#x}")
        self.breakpoints.remove(address)

    def watch(self, address: int, length: int) -> None:
        self._note(f"watch {address:#x} {length}")

    def unwatch(self, address: int, length: int) -> None:
        self._note(f"unwatch {address:#x} {length}")

    def go(self) -> None:
        self._note("go")

    def wait(self, deadline: Deadline) -> Stop | None:
        self._note("wait")
        return self.stops.pop(0) if self.stops else None

    def stop(self) -> None:
        self._note("stop")
        self.in_guest = max(0, self.in_guest - 1)

    def _note(self, what: str) -> None:
        assert self.attached, f"{what} outside of a session"
        self.log.append(what)

    def _read(self, memory: dict[int, int], address: int, length: int) -> bytes:
        assert self.attached
        return bytes(memory.get(address + place, 0) for place in range(length))

    def _write(self, what: str, address: int, data: bytes) -> None:
        self._note(f"{what} {address:#x} {data.hex()}")

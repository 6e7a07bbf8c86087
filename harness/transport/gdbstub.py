"""A client of QEMU's gdbstub: the GDB remote serial protocol over a unix socket.

Only what the harness needs: memory by virtual and physical address, registers, breakpoints, watched writes, go, stop.
Protocol: GDB manual, appendix "Remote Serial Protocol"; the physical mode is QEMU's own `Qqemu.PhyMemMode`.
While a client is attached QEMU stops all vCPUs, so sessions are kept short.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import fields

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.transport.debugger import Registers, Stop

_CHUNK = 1024  # bytes per memory packet; QEMU's packet buffer is 4096 characters
_ANSWER_SECONDS = 10.0
# a 'g' answer, QEMU gdb-xml/i386-64bit.xml: name and bytes, in order; what follows is not wanted
_LAYOUT = (
    *((name, 8) for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")),
    *((name, 8) for name in ("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip")),
    *((name, 4) for name in ("eflags", "cs", "ss", "ds", "es", "fs", "gs")),
    *((name, 8) for name in ("fs_base", "gs_base", "k_gs_base", "cr0", "cr2", "cr3")),
)
_WANTED = frozenset(field.name for field in fields(Registers))
_BREAKPOINT, _WATCHED_WRITE = 0, 2  # of the packets Z and z
_WRITTEN = re.compile(rb"\bwatch:([0-9a-f]+);")


class GdbStub:
    """One attached session. The machine is stopped from the moment this exists."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self._planted: set[tuple[int, int, int]] = set()  # the protocol's type, address, length
        self._running = False
        self._reported: int | None = None  # the breakpoint that `wait` told of and `go` has to get over
        self._ask(b"qC")  # swallows the stop reply that QEMU sends on its own when a client connects

    def read(self, address: int, length: int) -> bytes:
        data = b""
        while len(data) < length:
            size = min(_CHUNK, length - len(data))
            answer = self._ask(b"m%x,%x" % (address + len(data), size))
            if answer.startswith(b"E"):
                raise LabError(f"the gdbstub cannot read {size} bytes at {address + len(data):#x}")
            data += bytes.fromhex(answer.decode("ascii"))
        return data

    def write(self, address: int, data: bytes) -> None:
        for start in range(0, len(data), _CHUNK):
            part = data[start : start + _CHUNK]
            self._expect_ok(b"M%x,%x:%s" % (address + start, len(part), part.hex().encode()))

    def read_physical(self, address: int, length: int) -> bytes:
        with self._physical():
            return self.read(address, length)

    def write_physical(self, address: int, data: bytes) -> None:
        with self._physical():
            self.write(address, data)

    def break_at(self, address: int) -> None:
        self._plant(_BREAKPOINT, address, 1)

    def clear(self, address: int) -> None:
        self._remove(_BREAKPOINT, address, 1)

    def watch(self, address: int, length: int) -> None:
        self._plant(_WATCHED_WRITE, address, length)

    def unwatch(self, address: int, length: int) -> None:
        self._remove(_WATCHED_WRITE, address, length)

    def _plant(self, kind: int, address: int, length: int) -> None:
        self._expect_ok(b"Z%d,%x,%x" % (kind, address, length))
        self._planted.add((kind, address, length))

    def _remove(self, kind: int, address: int, length: int) -> None:
        self._expect_ok(b"z%d,%x,%x" % (kind, address, length))
        self._planted.discard((kind, address, length))

    def go(self) -> None:
        if (_BREAKPOINT, self._reported, 1) in self._planted:
            # QEMU passes over breakpoints while it steps, and takes no interrupt; with `c` it would not move
            self._send(b"s")
            if self._stopped(Deadline.after(_ANSWER_SECONDS)) is None:
                raise LabError(f"the machine could not be stepped over the breakpoint at {self._reported:#x}")
        self._reported = None
        self._send(b"c")
        self._running = True

    def wait(self, deadline: Deadline) -> Stop | None:
        written = None
        if self._running:
            packet = self._stopped(deadline)
            if packet is None:
                return None
            self._running = False
            found = _WRITTEN.search(packet)
            written = int(found[1], 16) if found else None
        registers = self._registers()
        self._reported = registers.rip
        return Stop(registers, written)

    def stop(self) -> None:
        if self._running:
            self._put(b"\x03")
            self._receive(Deadline.after(_ANSWER_SECONDS))
            self._running = False

    def _stopped(self, deadline: Deadline) -> bytes | None:
        """The next stop reply; None when the deadline came first."""
        try:
            return self._receive(deadline)
        except TimeoutError:
            return None

    def detach(self) -> None:
        """Remove what we planted and let the machine run."""
        self.stop()
        for kind, address, length in sorted(self._planted):
            self._remove(kind, address, length)
        self._expect_ok(b"D;1")

    def _registers(self) -> Registers:
        raw = bytes.fromhex(self._ask(b"g").decode("ascii"))
        values: dict[str, int] = {}
        offset = 0
        for name, size in _LAYOUT:
            values[name] = int.from_bytes(raw[offset : offset + size], "little")
            offset += size
        if len(raw) < offset:
            raise LabError(f"the gdbstub's registers are {len(raw)} bytes, not an x86-64 CPU's {offset}")
        return Registers(**{name: value for name, value in values.items() if name in _WANTED})

    @contextlib.contextmanager
    def _physical(self) -> Iterator[None]:
        self._expect_ok(b"Qqemu.PhyMemMode:1")
        try:
            yield
        finally:
            self._expect_ok(b"Qqemu.PhyMemMode:0")

    def _expect_ok(self, command: bytes) -> None:
        answer = self._ask(command)
        if answer != b"OK":
            raise LabError(f"the gdbstub answered {answer!r} to {command[:40]!r}")

    def _ask(self, command: bytes) -> bytes:
        self._send(command)
        deadline = Deadline.after(_ANSWER_SECONDS)
        try:
            while True:
                answer = self._receive(deadline)
                if not answer.startswith((b"T", b"S")):  # a stop reply answers no question of ours
                    return answer
        except TimeoutError:
            raise LabError(f"the gdbstub did not answer {command[:40]!r} in {_ANSWER_SECONDS:.0f} s") from None

    def _send(self, command: bytes) -> None:
        self._put(b"$%s#%02x" % (command, sum(command) & 0xFF))

    def _put(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise _closed() from error

    def _receive(self, deadline: Deadline) -> bytes:
        """The next packet's content; acknowledgements in front of it are skipped."""
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start)
            if start >= 0 and end >= 0 and len(self._buffer) >= end + 3:
                packet = self._buffer[start + 1 : end]
                self._buffer = self._buffer[end + 3 :]
                self._put(b"+")
                return packet
            self._socket.settimeout(max(0.001, deadline.remaining))
            try:
                received = self._socket.recv(65536)
            except ConnectionError as error:
                raise _closed() from error
            if not received:
                raise _closed()
            self._buffer += received


def _closed() -> LabError:
    return LabError("the gdbstub closed the connection", hint="did the emulator end?")


class GdbDebugger:
    """The `Debugger` of a machine under QEMU. `connect` opens a fresh connection to its gdbstub."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect

    @contextlib.contextmanager
    def attach(self) -> Iterator[GdbStub]:
        with contextlib.closing(self._connect()) as connection:
            stub = GdbStub(connection)
            try:
                yield stub
            finally:
                stub.detach()

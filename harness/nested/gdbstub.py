"""A client of QEMU's gdbstub: the GDB remote serial protocol over a unix socket.

Only what the harness needs: memory by virtual and physical address, breakpoints, go and stop.
Protocol: GDB manual, appendix "Remote Serial Protocol"; the physical mode is QEMU's own `Qqemu.PhyMemMode`.
While a client is attached QEMU stops all vCPUs, so sessions are kept short.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

from harness.deadline import Deadline
from harness.errors import LabError
from harness.lab.debugger import Registers

_CHUNK = 1024  # bytes per memory packet; QEMU's packet buffer is 4096 characters
_ANSWER_SECONDS = 10.0
_RIP_OFFSET = 16 * 8  # behind the sixteen general registers in a 'g' answer
_RSP_OFFSET = 7 * 8


class GdbStub:
    """One attached session. The machine is stopped from the moment this exists."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self._breakpoints: set[int] = set()
        self._running = False
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
        self._expect_ok(b"Z0,%x,1" % address)
        self._breakpoints.add(address)

    def clear(self, address: int) -> None:
        self._expect_ok(b"z0,%x,1" % address)
        self._breakpoints.discard(address)

    def go(self) -> None:
        self._send(b"c")
        self._running = True

    def wait(self, deadline: Deadline) -> Registers | None:
        if self._running:
            try:
                self._receive(deadline)
            except TimeoutError:
                return None
            self._running = False
        return self._registers()

    def stop(self) -> None:
        if self._running:
            self._put(b"\x03")
            self._receive(Deadline.after(_ANSWER_SECONDS))
            self._running = False

    def detach(self) -> None:
        """Remove what we planted and let the machine run."""
        self.stop()
        for address in sorted(self._breakpoints):
            self.clear(address)
        self._expect_ok(b"D;1")

    def _registers(self) -> Registers:
        raw = bytes.fromhex(self._ask(b"g").decode("ascii"))

        def value(offset: int) -> int:
            return int.from_bytes(raw[offset : offset + 8], "little")

        return Registers(rip=value(_RIP_OFFSET), rsp=value(_RSP_OFFSET))

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

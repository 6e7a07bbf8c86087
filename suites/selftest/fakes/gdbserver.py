"""A gdbstub in a thread, speaking the remote protocol as QEMU does: acknowledgements, and a stop packet unasked."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable

from suites.selftest.fakes.patience import FOREVER


class GdbServer:
    """One client. `packets` is what it was asked, in order; `refuse` are commands answered with E22."""

    def __init__(self, *, greeting: bytes = b"T05thread:01;") -> None:
        self.client, self._server = socket.socketpair()
        self.memory = bytearray(0x10000)
        self.physical = bytearray(0x10000)
        self.packets: list[bytes] = []
        self.breakpoints: set[int] = set()
        self.watched: set[tuple[int, int]] = set()
        self.refuse: re.Pattern[bytes] | None = None
        self.stop_at: Callable[[], bytes | None] = lambda: (
            b"T05thread:01;"
        )  # after `c`: a stop packet, or None: runs on
        self.registers = bytes(range(212)) + bytes(396)  # up to cr3, and the rest of what QEMU 7.2 sends
        self.acks = 0
        self.bad_checksums = 0
        self.running = False
        self.detached = False
        self._physical_mode = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._greeting = greeting
        self._thread.start()

    def close(self) -> None:
        self._server.close()
        self._thread.join(FOREVER)

    def send(self, content: bytes) -> None:
        self._server.sendall(b"$%s#%02x" % (content, sum(content) & 0xFF))

    def _serve(self) -> None:
        if self._greeting:
            self.send(self._greeting)
        buffer = b""
        while True:
            try:
                received = self._server.recv(65536)
            except OSError:
                return
            if not received:
                return
            buffer += received
            while buffer:
                if buffer[:1] == b"+":
                    self.acks += 1
                    buffer = buffer[1:]
                elif buffer[:1] == b"\x03":
                    buffer = buffer[1:]
                    self.packets.append(b"\x03")
                    self.running = False
                    self.send(b"T02thread:01;")
                else:
                    packet = re.match(rb"\$([^#]*)#([0-9a-f]{2})", buffer)
                    if packet is None:
                        break
                    buffer = buffer[packet.end() :]
                    self.bad_checksums += sum(packet[1]) & 0xFF != int(packet[2], 16)
                    self._server.sendall(b"+")
                    self.packets.append(packet[1])
                    self._answer(packet[1])

    def _answer(self, command: bytes) -> None:
        if self.refuse and self.refuse.fullmatch(command):
            self.send(b"E22")
        elif command == b"s":
            self.send(b"T05thread:01;")
        elif command == b"c":
            stop = self.stop_at()
            self.running = stop is None
            if stop is not None:
                self.send(stop)
        else:
            self.send(self._reply(command))

    def _reply(self, command: bytes) -> bytes:
        kind, rest = command[:1], command[1:]
        memory = self.physical if self._physical_mode else self.memory
        if kind == b"m":
            address, size = (int(word, 16) for word in rest.split(b","))
            return memory[address : address + size].hex().encode()
        if kind == b"M":
            place, _, data = rest.partition(b":")
            address, size = (int(word, 16) for word in place.split(b","))
            assert len(data) == 2 * size <= 4096
            memory[address : address + size] = bytes.fromhex(data.decode())
        elif kind in (b"Z", b"z"):
            what, address, size = (int(word, 16) for word in rest.split(b","))
            if what == 0:
                (self.breakpoints.add if kind == b"Z" else self.breakpoints.remove)(address)
            elif what == 2:
                (self.watched.add if kind == b"Z" else self.watched.remove)((address, size))
            else:
                return b""  # as QEMU does with what it does not know
        elif kind == b"g":
            return self.registers.hex().encode()
        elif command == b"qC":
            return b"QCp01.01"
        elif command.startswith(b"Qqemu.PhyMemMode:"):
            self._physical_mode = command.endswith(b"1")
        elif kind == b"D":
            self.detached = True
        return b"OK"

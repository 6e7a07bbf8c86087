"""The serial line of a practice machine on a loopback port, for its owner alone.

    python -IS serialport.py PORT PROGRAM...    becomes PROGRAM, and serves the port as long as that lives

QEMU would serve a TCP port to every user of this machine, and ipmi_sim's serial over LAN takes nothing but a TCP port
or a lock file in /var/lock. So QEMU serves a Unix socket in the machine's directory, which nobody else can enter, and
each connection to the port is asked whose it is before a byte goes either way. A program of its own: only the standard
library.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from pathlib import Path

LINE = "serial.sock"
"""What QEMU serves, in the working directory, while the machine is on."""

_END = 9  # open in PROGRAM as long as it lives; its control script closes it for the machine
_ESTABLISHED = 1
_TABLE = Path("/proc/net/tcp")


def owner(table: str, peer: tuple[str, int], port: int) -> int | None:
    """The user id of who has the connection from `peer` to our loopback `port`; None when nobody has.

    Accepted format: /proc/net/tcp (proc(5)), addresses as the kernel's hexadecimal. A socket that its process has
    closed has no inode and no owner any more, and shows 0, which is root's number.
    """
    ours = f"{_hexadecimal(peer)} {_hexadecimal(('127.0.0.1', port))}"
    for line in table.splitlines()[1:]:
        words = line.split()
        if " ".join(words[1:3]) == ours and int(words[3], 16) == _ESTABLISHED and words[9] != "0":
            return int(words[7])
    return None


def _hexadecimal(address: tuple[str, int]) -> str:
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"


def serve(server: socket.socket, end: int) -> None:
    """One connection after the other, as a serial line has one plug, until `end` ends."""
    port = server.getsockname()[1]
    while not _ended(end, server.fileno()):
        plug, peer = server.accept()
        with plug, contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            if owner(_TABLE.read_text(), peer, port) == os.getuid():
                line.connect(LINE)
                _carry(plug, line, end)


def _ended(end: int, *others: int) -> bool:
    """Waits until there is something to read. Whether that is the end."""
    poll = select.poll()
    for descriptor in (end, *others):
        poll.register(descriptor, select.POLLIN)
    return end in dict(poll.poll())


def _carry(one: socket.socket, other: socket.socket, end: int) -> None:
    """Bytes both ways, until either side or all has ended."""
    while not _ended(end, one.fileno(), other.fileno()):
        for source, sink in ((one, other), (other, one)):
            try:
                data = source.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            if not data:
                return
            sink.sendall(data)


def main(port: int, *program: str) -> None:
    server = socket.create_server(("127.0.0.1", port))
    end, theirs = os.pipe()
    if os.fork():
        os.dup2(theirs, _END)
        os.execvp(program[0], program)  # noqa: S606 - the argv list of who started us; there is no shell
    os.close(theirs)
    serve(server, end)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])

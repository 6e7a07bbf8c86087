"""Where a console comes from: each source can be opened again and again, and read until it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import subprocess
import tty
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.base.process import end_group, find, run
from harness.lab.inventory.control import IpmiPower, TcpConsole
from harness.lab.inventory.secret import Secret
from harness.lab.power.ipmi import ipmitool

_CHUNK = 1 << 16
WAIT = 0.5  # seconds after which a reader looks whether it shall stop
_SECONDS = 15.0
# A console may be silent for hours: a console server that went away is noticed within half a minute (tcp(7)).
_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


class Attached(Protocol):
    """A console that is being read."""

    def read(self) -> bytes | None:
        """What arrived; b"" when nothing did for a moment, None when the source has ended."""


class Source(Protocol):
    """One way to a host's console."""

    @property
    def name(self) -> str:
        """For messages, without secrets."""

    def attach(self) -> AbstractContextManager[Attached]:
        """Read from now on. LabError when it cannot be opened."""


class _Descriptor:
    """`Attached` to a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> bytes | None:
        ready = select.poll()  # not select(): a long run may have more than 1024 files open
        ready.register(self._descriptor, select.POLLIN)
        if not ready.poll(WAIT * 1000):
            return b""
        try:
            return os.read(self._descriptor, _CHUNK) or None
        except OSError:  # a pty whose program ended gives EIO, a reset connection ECONNRESET
            return None


class CommandSource:
    """A program that prints the console as it comes."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)

    @property
    def name(self) -> str:
        return f"command {self._argv[0]}"

    @contextlib.contextmanager
    def attach(self) -> Iterator[Attached]:
        program = [find(self._argv[0]), *self._argv[1:]]
        process = _started(program, subprocess.PIPE)
        assert process.stdout is not None  # noqa: S101 - a pipe
        try:
            yield _Descriptor(process.stdout.fileno())
        finally:
            end_group(process)
            process.stdout.close()


class TcpSource:
    """A console server's port."""

    def __init__(self, entry: TcpConsole) -> None:
        self._address = (entry.address, entry.port)

    @property
    def name(self) -> str:
        return f"tcp {self._address[0]}:{self._address[1]}"

    @contextlib.contextmanager
    def attach(self) -> Iterator[Attached]:
        try:
            plug = socket.create_connection(self._address, timeout=_SECONDS)
        except OSError as error:
            raise LabError(f"{self.name}: {error.strerror or error}") from error
        with plug:
            plug.settimeout(None)
            for option, value in _KEEPALIVE.items():
                plug.setsockopt(socket.IPPROTO_TCP, option, value)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            yield _Descriptor(plug.fileno())


class IpmiSource:
    """Serial over LAN. ipmitool wants a terminal, so it gets one of ours."""

    def __init__(self, entry: IpmiPower, password: Secret) -> None:
        self._entry = entry
        self._password = password

    @property
    def name(self) -> str:
        return f"ipmi {self._entry.address}"

    @contextlib.contextmanager
    def attach(self) -> Iterator[Attached]:
        with ipmitool(self._entry, self._password) as argv:
            # a session that was cut off is still open there; that there is none is no error
            run([*argv, "sol", "deactivate"], deadline=Deadline.after(_SECONDS), check=False)
            ours, theirs = pty.openpty()
            try:
                tty.setraw(theirs)  # the bytes as they come: no carriage return added to a newline
                process = _started([*argv, "sol", "activate"], theirs, stdin=theirs)
            finally:
                os.close(theirs)
            try:
                yield _Descriptor(ours)
            finally:
                end_group(process)
                os.close(ours)


def _started(argv: Sequence[str], out: int, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Dies with us: setpriv(1)."""
    guarded = [find("setpriv"), "--pdeathsig", "TERM", "--", *argv]
    try:
        return subprocess.Popen(  # noqa: S603 - argv list of the inventory's, no shell
            guarded, stdin=stdin, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise LabError(f"cannot start {argv[0]}: {error.strerror}") from error

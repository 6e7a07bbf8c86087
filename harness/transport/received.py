"""The output of a running program, fed by one thread and waited for by others."""

from __future__ import annotations

import re
import threading

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostHung, HostUnreachable
from harness.transport.base import MOST, CommandEnd

_TAIL = 80  # bytes of the unread output shown in an error


class Received:
    """All bytes so far, a mark up to which they were read, and the ending once there is one."""

    def __init__(self, who: str) -> None:
        self._who = who  # host and command, for messages
        self._changed = threading.Condition()
        self._data = bytearray()
        self._read = 0
        self._ending: CommandEnd | None = None
        self._over = False

    def feed(self, data: bytes) -> bool:
        """False once there is more than anybody will hear of: then this was the end."""
        with self._changed:
            self._over = self._over or len(self._data) + len(data) > MOST
            if self._over:
                self._ending = self._ending or CommandEnd()
            else:
                self._data += data
            self._changed.notify_all()
            return not self._over

    def end(self, ending: CommandEnd) -> None:
        """No more will come. The first ending counts."""
        with self._changed:
            self._ending = self._ending or ending
            self._changed.notify_all()

    @property
    def data(self) -> bytes:
        with self._changed:
            return bytes(self._data)

    @property
    def ending(self) -> CommandEnd | None:
        with self._changed:
            return self._ending

    def read_until(self, pattern: bytes | re.Pattern[bytes], deadline: Deadline) -> bytes:
        """As `Stream.read_until`."""
        wanted = re.compile(re.escape(pattern)) if isinstance(pattern, bytes) else pattern
        with self._changed:
            while True:
                seen = len(self._data)
                # On a copy: a bytearray cannot grow while a match object still points into it.
                match = wanted.search(bytes(self._data[self._read :]))
                if match:
                    start, self._read = self._read, self._read + match.end()
                    return bytes(self._data[start : self._read])
                if self._ending is not None:
                    raise self._too_short(wanted, self._ending)
                while len(self._data) == seen and self._ending is None:
                    if deadline.expired:
                        raise HostHung(f"{self._who}: {wanted.pattern!r} did not come in time{self._tail()}")
                    self._changed.wait(deadline.remaining)

    def _too_short(self, wanted: re.Pattern[bytes], ending: CommandEnd) -> CommandFailed | HostUnreachable:
        if self._over:
            return CommandFailed(f"{self._who}: says more than {MOST >> 20} MiB, and {wanted.pattern!r} is not in it")
        error = HostUnreachable if ending.lost else CommandFailed
        return error(f"{self._who}: {ending} before {wanted.pattern!r} came{self._tail()}")

    def _tail(self) -> str:
        unread = bytes(self._data[self._read :])[-_TAIL:]
        return f"; last output {unread!r}" if unread else "; no output"


class ReadStream:
    """The reading half of a `Stream`, the same for every transport; the writing half and `close` are its own."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._received = Received(who)

    def read_until(self, pattern: bytes | re.Pattern[bytes], deadline: Deadline) -> bytes:
        return self._received.read_until(pattern, deadline)

    @property
    def received(self) -> bytes:
        return self._received.data

    @property
    def ended(self) -> bool:
        return self._received.ending is not None

    @property
    def ending(self) -> CommandEnd | None:
        return self._received.ending

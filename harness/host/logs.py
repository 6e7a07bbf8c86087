"""Where a log stood at a moment, and what it has gained since: a ring drops its oldest lines to take new ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from harness.base.errors import LabError

_TAIL = 2000  # bytes by which a place is known again


@dataclass(frozen=True)
class LogEnd:
    """The end of a log: how long it was, and its last bytes."""

    length: int
    tail: bytes

    @classmethod
    def of(cls, log: bytes) -> LogEnd:
        return cls(len(log), log[-_TAIL:])

    def new_in(self, log: bytes) -> bytes:
        """What stands behind this end in a later reading of the same log.

        LabError when this end is not in it: the ring has run over it, was cleared, or belongs to another boot.
        """
        if log[: self.length].endswith(self.tail) and len(log) >= self.length:
            return log[self.length :]
        place = log.find(self.tail) if self.length >= _TAIL else -1  # a few bytes may stand anywhere
        if place < 0:
            raise LabError(
                "its ring has run over what it had said before, or the host has booted",
                hint="a larger ring loses nothing: conring_size=4M for Xen, log_buf_len=4M for dom0's kernel",
            )
        return log[place + len(self.tail) :]


@dataclass(frozen=True)
class Mark:
    """A moment in both logs of a host."""

    xen: LogEnd
    dom0: LogEnd

"""What every way to a console promises: a model of the inventory, and the source made of it."""

from __future__ import annotations

import os
import select
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Protocol

from harness.base.errors import LabError
from harness.base.process import environment, find
from harness.base.strict import StrictModel
from harness.lab.power.base import PowerEntry

_CHUNK = 1 << 16
WAIT = 0.5  # seconds after which a reader looks whether it shall stop


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


class ConsoleEntry(StrictModel):
    """Where a console is read, as the inventory says it. A way is a subclass in a file named as its `kind`."""

    kind: str

    power_kind: ClassVar[str] = ""
    """The kind of power whose controller has the console too; empty: any, or none."""

    exclusive: ClassVar[bool] = False
    """Whether what the keys name is one host's line, which no other host may have."""

    @abstractmethod
    def source(self, power: PowerEntry | None) -> Source:
        """The source; nothing is opened yet. `power` is the host's, of kind `power_kind` where that is given.

        UsageError for a secret that is not there, LabError for a library that is not.
        """


class Descriptor:
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


def started(
    argv: Sequence[str], out: int, stdin: int = subprocess.DEVNULL, err: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Dies with us: setpriv(1)."""
    guarded = [find("setpriv"), "--pdeathsig", "TERM", "--", *argv]
    try:
        return subprocess.Popen(  # noqa: S603 - argv list of the inventory's, no shell
            guarded, stdin=stdin, stdout=out, stderr=err, start_new_session=True, env=environment()
        )
    except OSError as error:
        raise LabError(f"cannot start {argv[0]}: {error.strerror}") from error

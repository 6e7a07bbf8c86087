"""What every way to a host promises: run a command, hold a stream, carry a file.

A command is a list of words, or a `Script` where a shell program is really meant. A plain string is refused,
so nothing reaches a shell unquoted by accident.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HarnessBug, HostUnreachable, LabError, OutcomeUnknown, UsageError
from harness.base.text import inert

_SHORT = 160  # characters of a command that fit in a one-line message

MOST = 256 << 20
"""Bytes that one program may say. A host that says more is ill or hostile, and this machine is not to suffer."""


@dataclass(frozen=True)
class Script:
    """A program for a POSIX `sh`, written deliberately as one text. Values from outside go in through `quote`."""

    text: str

    def __post_init__(self) -> None:
        if "\0" in self.text:
            raise UsageError("a script cannot contain a NUL character")


Command = Sequence[str] | Script


def quote(argv: Sequence[str]) -> str:
    """`argv` as one line a POSIX shell reads back as exactly these words. The only place that quotes.

    Newlines and bytes that are no UTF-8 (as surrogate escapes) are legal; a NUL cannot be passed to any program.
    """
    if isinstance(argv, str | bytes) or not argv:
        raise HarnessBug(f"a command is a list of words or a Script, not {argv!r}")
    if any("\0" in word for word in argv):
        raise UsageError(f"a command word cannot contain a NUL character: {list(argv)!r}")
    return shlex.join(argv)


def shown(command: Command) -> str:
    """The command as a line to paste into a terminal."""
    return quote(["sh", "-c", command.text] if isinstance(command, Script) else command)


def briefly(line: str) -> str:
    """A command line cut to fit in a one-line message."""
    flat = " ".join(line.split())
    return flat if len(flat) <= _SHORT else flat[: _SHORT - 3] + "..."


def lost_link(host: str, line: str, why: str, *, changes: bool) -> LabError:
    """The error for a link that broke after the command `line` was sent."""
    if changes:
        return OutcomeUnknown(
            f"{host}: {why} during a command that changes state: {briefly(line)}",
            hint="it ran, or it did not: ask the host, do not send it again",
        )
    return HostUnreachable(f"{host}: {why} during: {briefly(line)}")


@dataclass(frozen=True)
class CommandEnd:
    """How a program ended: by exit `status`, by `signal` (its name without SIG), or unknown (link broken or closed)."""

    status: int | None = None
    signal: str | None = None

    @property
    def lost(self) -> bool:
        return self.status is None and self.signal is None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by SIG{self.signal}"
        return "link lost or closed" if self.status is None else f"status {self.status}"


@dataclass(frozen=True)
class CommandResult:
    """A command that ended. Exactly one of `status` and `signal` is set: a lost link is an exception, not a result."""

    shown: str  # the command, to paste
    stdout: bytes
    stderr: bytes
    status: int | None
    signal: str | None
    seconds: float  # from sending to ending, as the controller saw it
    host: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are no UTF-8 are replaced."""
        return self.stdout.decode("utf-8", errors="replace")

    @property
    def complaint(self) -> str:
        """The last line of its standard error, fit to be shown; where there is none, how it ended."""
        return self._last_line or str(CommandEnd(self.status, self.signal))

    @property
    def _last_line(self) -> str:
        lines = self.stderr.decode("utf-8", errors="replace").strip().splitlines()
        return inert(lines[-1].strip()) if lines else ""

    def check(self) -> CommandResult:
        """Itself when the command succeeded; CommandFailed with the last line of its stderr otherwise."""
        if self.ok:
            return self
        last = f": {self._last_line}" if self._last_line else ""
        raise CommandFailed(f"{self.host}: {CommandEnd(self.status, self.signal)}: {briefly(self.shown)}{last}")


class Stream(Protocol):
    """A running program: its input, and its stdout and stderr merged as they arrive."""

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        """Send all of `data`; without a deadline at most 10 s. HostHung if not taken, CommandFailed if nobody reads.

        HostUnreachable if the link is lost.
        """

    def read_until(self, pattern: bytes | re.Pattern[bytes], deadline: Deadline) -> bytes:
        """What arrived since the last read, up to and including the first match, which is then consumed.

        HostHung at the deadline, CommandFailed if the program ended first, HostUnreachable if the link did.
        """

    @property
    def received(self) -> bytes:
        """Everything since the start, whether it was read or not."""

    @property
    def ended(self) -> bool:
        """The program ended and all its output is in `received`."""

    @property
    def ending(self) -> CommandEnd | None:
        """How it ended; None while it runs."""

    def close(self) -> None:
        """End it. Safe to call twice; `received` stays readable."""


class Transport(Protocol):
    """One host as seen through one link. Safe to use from several threads.

    A command ends when it exited *and* its output is closed, as with ssh: what stays behind in the background must
    redirect its output. Its input is `stdin`, then end of file.
    """

    @property
    def name(self) -> str:
        """The host's name in messages and logs."""

    @property
    def connected(self) -> bool:
        """A link exists and nobody noticed it broken."""

    def connect(self, deadline: Deadline) -> None:
        """Make the link, waiting for a host that is still booting. Never done behind the caller's back."""

    def close(self) -> None:
        """Drop the link. Safe to call twice."""

    def run(self, command: Command, *, deadline: Deadline, changes: bool = False, stdin: bytes = b"") -> CommandResult:
        """Run to its end, once. Any exit status is a result; `check()` it where failure is not expected.

        HostHung: not ended at the deadline (the program may still run). HostUnreachable: no link, nothing sent; or
        the link broke during a command that only reads. OutcomeUnknown: it broke during one that `changes` the host.
        LabError: it said more than `MOST` bytes.
        """

    def open_stream(self, command: Command, *, deadline: Deadline, changes: bool = False) -> Stream:
        """Start a long-running program to talk with; `deadline` is for starting it. Errors as for `run`."""

    def put(self, data: bytes, path: str, mode: int, deadline: Deadline) -> None:
        """Write a file in one step: readers see the old content or all of the new. CommandFailed, or as `run`."""

    def get(self, path: str, deadline: Deadline) -> bytes:
        """A file's content. CommandFailed if it cannot be read, or as `run`."""

"""An honest stand-in for a host: a table of commands, files in memory, and a link that breaks on request."""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostHung, HostUnreachable
from harness.transport.base import Command, CommandEnd, CommandResult, briefly, lost_link, shown
from harness.transport.received import ReadStream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """What a command answers. `seconds` is how long it pretends to take: past the deadline it is HostHung, at once."""

    stdout: bytes = b""
    stderr: bytes = b""
    status: int | None = 0
    signal: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Executed:
    """One command as the host got it."""

    shown: str
    changes: bool
    stdin: bytes


class Cut(enum.Enum):
    """When the link breaks, seen from the host."""

    BEFORE = "the command never left"
    DURING = "the command arrived and was started, its work was not done"
    AFTER = "the command did its work, its answer was lost"


Answer = TypeVar("Answer")
Handler = Reply | Callable[[Executed], Reply]
# Gets what was written to the program (b"" once, at its start) and gives what it prints; None: it ends with status 0.
Conversation = Callable[[bytes], bytes | None]


class FakeStream(ReadStream):
    """`Stream` to a conversation: a function from input to output."""

    def __init__(self, who: str, answer: Conversation) -> None:
        super().__init__(who)
        self._answer = answer
        self.write(b"")

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        if self.ended:
            raise CommandFailed(f"{self._who}: its input is closed")
        answer = self._answer(data)
        if answer is None:
            self._received.end(CommandEnd(status=0))
        else:
            self._received.feed(answer)

    def close(self) -> None:
        self._received.end(CommandEnd(signal="KILL"))

    def end(self, ending: CommandEnd) -> None:
        """As if the program ended, or, with a lost ending, the link under it broke."""
        self._received.end(ending)


@dataclass
class FakeTransport:
    """`Transport` to a host that exists only in a test.

    `commands` and `streams`: regular expression, matched against the whole shown command, to its answer; the first
    match counts, and an unknown command ends with status 127 as from a shell. `files`: path to (content, mode).
    `executed`: every command that reached the host, in order.
    """

    name: str = "fake"
    commands: dict[str, Handler] = field(default_factory=dict)
    streams: dict[str, Conversation] = field(default_factory=dict)
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    executed: list[Executed] = field(default_factory=list)
    connected: bool = False
    listening: bool = True  # set to False for a host that is off
    _cut: Cut | None = None
    _open: list[FakeStream] = field(default_factory=list)

    def connect(self, deadline: Deadline) -> None:
        if not self.listening:
            raise HostUnreachable(f"{self.name}: not listening")
        self.connected = True

    def close(self) -> None:
        self.connected = False
        for stream in self._open:
            stream.end(CommandEnd())
        self._open.clear()

    def say(self, data: bytes) -> None:
        """As if the program that was opened last went on by itself."""
        self._open[-1]._received.feed(data)

    def lose_link(self, cut: Cut) -> None:
        """Break the link before, during or after the next command, put or get."""
        self._cut = cut

    def run(self, command: Command, *, deadline: Deadline, changes: bool = False, stdin: bytes = b"") -> CommandResult:
        line = shown(command)

        def work() -> CommandResult:
            reply = self._reply(self.executed[-1])
            if reply.seconds > deadline.remaining:
                raise HostHung(f"{self.name}: not ended in time: {briefly(line)}")
            return CommandResult(line, reply.stdout, reply.stderr, reply.status, reply.signal, reply.seconds, self.name)

        return self._over_link(Executed(line, changes, stdin), work)

    def open_stream(self, command: Command, *, deadline: Deadline, changes: bool = False) -> FakeStream:
        line = shown(command)

        def work() -> FakeStream:
            for pattern, answer in self.streams.items():
                if re.fullmatch(pattern, line, re.DOTALL):
                    stream = FakeStream(f"{self.name}: {briefly(line)}", answer)
                    self._open.append(stream)
                    return stream
            stream = FakeStream(f"{self.name}: {briefly(line)}", lambda _: b"sh: not found\n")
            stream.end(CommandEnd(status=127))
            return stream

        return self._over_link(Executed(line, changes, b""), work)

    def put(self, data: bytes, path: str, mode: int, deadline: Deadline) -> None:
        def work() -> None:
            self.files[path] = (data, mode)

        self._over_link(Executed(f"put {path}", True, data), work)

    def get(self, path: str, deadline: Deadline) -> bytes:
        def work() -> bytes:
            if path not in self.files:
                raise CommandFailed(f"{self.name}: status 1: cat: {path}: No such file or directory")
            return self.files[path][0]

        return self._over_link(Executed(f"get {path}", False, b""), work)

    def _reply(self, executed: Executed) -> Reply:
        for pattern, handler in self.commands.items():
            if re.fullmatch(pattern, executed.shown, re.DOTALL):
                return handler if isinstance(handler, Reply) else handler(executed)
        return Reply(stderr=f"sh: {executed.shown.split()[0]}: not found\n".encode(), status=127)

    def _over_link(self, executed: Executed, work: Callable[[], Answer]) -> Answer:
        """The work of one command, with the link broken where the test asked for it."""
        log.info("%s: %s", self.name, executed.shown)
        cut, self._cut = self._cut, None
        if cut is Cut.BEFORE:
            self.close()
        if not self.connected:
            raise HostUnreachable(f"{self.name}: not connected, not sent: {briefly(executed.shown)}")
        self.executed.append(executed)
        answer = None if cut is Cut.DURING else [work()]
        if cut is not None or answer is None:
            self.close()
            raise lost_link(self.name, executed.shown, "link lost", changes=executed.changes)
        return answer[0]

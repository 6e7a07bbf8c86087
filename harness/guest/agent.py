"""Talking to a guest over its PV console, which survives a killed device model.

One line in: `TOKEN COMMAND`. Output, then one sentinel line out: `@TOKEN STATUS`. The token is fresh for each
command, so no output can end a command by chance.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostHung
from harness.transport.base import Stream

_UP = re.compile(rb"@agent up ([0-9.]+)\r?\n")


@dataclass(frozen=True)
class AgentAnswer:
    output: bytes
    status: int


class Agent:
    """The agent of one running guest, behind a console stream."""

    def __init__(self, console: Stream) -> None:
        self._console = console

    def await_up(self, deadline: Deadline) -> bool:
        """Whether the guest's userland came up before the deadline or the console's end."""
        try:
            self._console.read_until(_UP, deadline)
        except (HostHung, CommandFailed):
            return False
        return True

    def run(self, command: str, deadline: Deadline) -> AgentAnswer:
        """One shell command line in the guest. HostHung when no answer came, CommandFailed when the console ended."""
        token = secrets.token_hex(6)
        self._console.write(f"{token} {command}\n".encode(), deadline)
        answer = self._console.read_until(re.compile(rb"\n@%s (\d+)\r?\n" % token.encode()), deadline)
        output, _, status = answer.rstrip().rpartition(b"@" + token.encode() + b" ")
        return AgentAnswer(output, int(status))

    def post(self, command: str, deadline: Deadline) -> None:
        """A command that ends the guest: no answer is waited for."""
        self._console.write(f"{secrets.token_hex(6)} {command}\n".encode(), deadline)

    @property
    def transcript(self) -> bytes:
        """All the console said so far, for the evidence."""
        return self._console.received

    def close(self) -> None:
        self._console.close()

"""The console by a program of the lab's own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from harness.base.process import end_group, find
from harness.base.words import Program
from harness.lab.console.base import Attached, ConsoleEntry, Descriptor, Source, started
from harness.lab.power.base import PowerEntry


class CommandConsole(ConsoleEntry):
    """A program that prints the console as it comes: `conserver`'s client, `tail -F` of a log."""

    kind: Literal["command"]
    argv: Program = Field(description="The program and its arguments; no shell reads them.")

    def source(self, power: PowerEntry | None) -> Source:
        return CommandSource(self.argv)


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
        process = started(program, subprocess.PIPE)
        assert process.stdout is not None  # noqa: S101 - a pipe
        try:
            yield Descriptor(process.stdout.fileno())
        finally:
            end_group(process)
            process.stdout.close()

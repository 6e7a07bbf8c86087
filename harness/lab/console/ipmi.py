"""The console by a management controller's Serial over LAN, through ipmitool(1)."""

from __future__ import annotations

import contextlib
import os
import pty
import tty
from collections.abc import Iterator
from typing import ClassVar, Literal

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.base.process import end_group, run
from harness.base.secret import Secret, resolve
from harness.base.text import inert
from harness.lab.console.base import Attached, ConsoleEntry, Descriptor, Source, started
from harness.lab.power.base import PowerEntry
from harness.lab.power.ipmi import IpmiPower, ipmitool, password_line

_SECONDS = 15.0


class IpmiConsole(ConsoleEntry):
    """Serial over LAN of the controller named under `power`, which then must be of kind ipmi."""

    kind: Literal["ipmi"]

    power_kind: ClassVar[str] = "ipmi"

    def source(self, power: PowerEntry | None) -> Source:
        assert isinstance(power, IpmiPower)  # noqa: S101 - power_kind
        return IpmiSource(power, resolve(power.password))


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
        argv, password = ipmitool(self._entry), password_line(self._password)
        # a session that was cut off is still open there; that there is none is no error
        run([*argv, "sol", "deactivate"], deadline=Deadline.after(_SECONDS), check=False, stdin=password)
        ours, theirs = pty.openpty()
        try:
            tty.setraw(theirs)  # the bytes as they come: no carriage return added to a newline
            process = started([*argv, "sol", "activate"], theirs, stdin=theirs, err=theirs)
        finally:
            os.close(theirs)
        try:
            console = Descriptor(ours)
            self._answer(console, ours, password)
            yield console
        finally:
            end_group(process)
            os.close(ours)

    def _answer(self, console: Descriptor, ours: int, password: bytes) -> None:
        """Once it has asked: what is typed before, getpass(3) throws away. LabError when it does not ask."""
        deadline, said = Deadline.after(_SECONDS), b""
        while b"Password:" not in said:
            data = console.read()
            if data is None or deadline.expired:
                raise LabError(
                    f"{self.name}: ipmitool did not ask for the password: {inert(said.decode(errors='replace'))}"
                )
            said += data
        os.write(ours, password)

"""The console by a management controller's Serial over LAN, through ipmitool(1)."""

from __future__ import annotations

import contextlib
import os
import pty
import tty
from collections.abc import Iterator
from typing import ClassVar, Literal

from harness.base.deadline import Deadline
from harness.base.process import end_group, run
from harness.base.secret import Secret, resolve
from harness.lab.console.base import Attached, ConsoleEntry, Descriptor, Source, started
from harness.lab.power.base import PowerEntry
from harness.lab.power.ipmi import IpmiPower, ipmitool

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
        with ipmitool(self._entry, self._password) as argv:
            # a session that was cut off is still open there; that there is none is no error
            run([*argv, "sol", "deactivate"], deadline=Deadline.after(_SECONDS), check=False)
            ours, theirs = pty.openpty()
            try:
                tty.setraw(theirs)  # the bytes as they come: no carriage return added to a newline
                process = started([*argv, "sol", "activate"], theirs, stdin=theirs)
            finally:
                os.close(theirs)
            try:
                yield Descriptor(ours)
            finally:
                end_group(process)
                os.close(ours)

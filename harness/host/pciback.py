"""Borrowing a device from dom0 and giving it back, each time read back from the host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError, RestoreFailed
from harness.model.address import Bdf
from harness.model.change import Change, Kind, Ledger
from harness.model.identity import find_device
from harness.transport.base import CommandResult, Transport
from harness.xen.toolstack.xl import Toolstack

_SECONDS = 30.0
PCIBACK = "pciback"


Guard = Callable[[Bdf, str | None], AbstractContextManager[None]]
"""Stands around a step that takes a device (BDF, its driver) from dom0: a host may need protection from it."""


def unguarded(device: Bdf, driver: str | None) -> AbstractContextManager[None]:
    """For a host that is thrown away afterwards."""
    del device, driver
    return contextlib.nullcontext()


@dataclass
class Borrowed:
    """A device on its way from dom0's driver to pciback and back."""

    transport: Transport
    toolstack: Toolstack
    address: Bdf
    original_driver: str | None
    ledger: Ledger
    guard: Guard = unguarded

    @classmethod
    def identify(
        cls,
        transport: Transport,
        toolstack: Toolstack,
        identity: str,
        ledger: Ledger,
        guard: Guard = unguarded,
        at: Bdf | None = None,
    ) -> Borrowed:
        """Find the device (only `at` that address if given) and note whose it is; changes nothing.

        A hot-added device is waited for.
        """
        deadline = Deadline.after(_SECONDS)
        command = ["lspci", "-D", "-n", *(["-s", str(at)] if at else [])]

        def seen() -> str | None:
            text = transport.run(command, deadline=deadline).check().text
            return text if identity in text else None

        address = find_device(poll(seen, deadline) or "", identity)
        return cls(transport, toolstack, address, driver_of(transport, address), ledger, guard)

    def bind(self) -> CommandResult:
        """To pciback. LabError when sysfs does not show it there afterwards."""
        back = self.original_driver or "no driver"
        self._about_to(f"bind {self.address} to pciback", undo=f"bind {self.address} to {back}")
        with self.guard(self.address, self.original_driver):
            result = self.toolstack.make_assignable(self.address, Deadline.after(_SECONDS))
        self._expect(PCIBACK, LabError(f"{self.address} could not be bound to pciback: {_last_line(result)}"))
        return result

    def unbind(self) -> CommandResult:
        """Off pciback, to no driver."""
        self._about_to(f"unbind {self.address} from pciback", undo=f"bind {self.address} to pciback")
        return self.toolstack.take_back(self.address, Deadline.after(_SECONDS), rebind=False)

    def give_back(self) -> CommandResult:
        """To the driver it came from. RestoreFailed when sysfs does not show it there afterwards."""
        self._about_to(f"give {self.address} back to {self.original_driver}", undo="nothing: this is the undo")
        result = self.toolstack.take_back(self.address, Deadline.after(_SECONDS), rebind=True)
        self._expect(
            self.original_driver,
            RestoreFailed(f"{self.address} did not go back to {self.original_driver}: {_last_line(result)}"),
        )
        return result

    def _about_to(self, text: str, undo: str) -> None:
        self.ledger.about_to(Change(Kind.DRIVER, str(self.address), text, undo))

    def _expect(self, driver: str | None, failure: LabError) -> None:
        if driver_of(self.transport, self.address) != driver:
            raise failure


def driver_of(transport: Transport, address: Bdf) -> str | None:
    """The driver dom0 has bound to the device, None when there is none."""
    link = transport.run(["readlink", f"/sys/bus/pci/devices/{address}/driver"], deadline=Deadline.after(_SECONDS))
    return link.text.strip().rpartition("/")[2] or None


def _last_line(result: CommandResult) -> str:
    lines = (result.stderr + result.stdout).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"status {result.status}, no message"

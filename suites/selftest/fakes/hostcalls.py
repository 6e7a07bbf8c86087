"""Calls of the fake host that several tests make."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec, GuestType
from harness.transport.base import CommandResult, Script, Transport
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.patience import soon

NIC, DISK = board.NIC, board.DISK


DEVICE = f"/sys/bus/pci/devices/{NIC}"
ADD = ["xl", "pci-assignable-add", NIC]


def run(transport: Transport, command: Sequence[str] | Script, stdin: bytes = b"", *, changes: bool = False) -> str:
    """Its output; it must not fail."""
    return transport.run(command, deadline=soon(), stdin=stdin, changes=changes).check().text


def tee(transport: Transport, path: str, value: str) -> CommandResult:
    return transport.run(["tee", path], deadline=soon(), stdin=f"{value}\n".encode(), changes=True)


def guest(*devices: str) -> GuestSpec:
    kernel, initrd = f"/boot/vmlinuz-{board.RELEASE}", f"/boot/initrd.img-{board.RELEASE}"
    return GuestSpec("maskall-a", GuestType.HVM, kernel, initrd, tuple(map(Bdf.parse, devices)))

"""A host as the scenarios see it: a link, devices, and powers it may or may not have.

Nothing here says whether the host is a machine on a bench or nested in an emulator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from harness.guest.initramfs import GuestFiles
from harness.lab.debugger import Debugger, PhysicalMemory
from harness.lab.transport.base import Transport


class Console(Protocol):
    """The host's console as recorded from before power-on."""

    def text(self) -> bytes: ...


@dataclass(frozen=True)
class TargetDevice:
    """A device the harness may borrow, named by its identity, never by its address alone."""

    name: str
    identity: str  # vendor:device as lspci -n prints it
    driver: str  # key of guest/drivers.yaml
    reset_effective: bool  # whether the reset that Linux uses for it clears MASKALL


@dataclass
class Host:
    name: str
    transport: Transport
    devices: dict[str, TargetDevice]
    guest_files: GuestFiles
    disposable: bool = False  # thrown away afterwards, so that nothing has to be put back for others
    console: Console | None = None
    debugger: Debugger | None = None
    memory: PhysicalMemory | None = None
    facts: dict[str, str] = field(default_factory=dict)

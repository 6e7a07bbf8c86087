"""A host as the scenarios see it: a link, devices, and powers it may or may not have.

Nothing here says whether the host is a machine on a bench or nested in an emulator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.base.progress import Progress
from harness.guest.initramfs import GuestFiles
from harness.host.pciback import Guard, unguarded
from harness.model.address import Bdf
from harness.model.change import Ledger, NoLedger
from harness.transport.base import Transport
from harness.transport.debugger import Debugger, PhysicalMemory
from harness.xen.toolstack.choice import ToolstackName


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
    address: Bdf | None = None  # where it was found, on a host where that has been checked; None: look it up


@dataclass(frozen=True)
class Opener:
    """What a lab that can freeze running hosts may play on one beforehand, so that hosts come with guests at work.

    `key` changes with whatever it does but not with the host; `wanted`: how many hosts of this run would begin with it.
    `play` leaves what a scenario needs to go on from there in a directory. LabError: it did not come that far.
    """

    key: str
    wanted: int
    play: Callable[[Host, Path, Progress], None]


@dataclass
class Host:
    name: str
    transport: Transport
    devices: dict[str, TargetDevice]
    guest_files: GuestFiles
    ledger: Ledger = field(default_factory=NoLedger)
    guard: Guard = unguarded
    restore: Callable[[], None] | None = None
    """Puts everything back as it was and verifies it; None for a host that is thrown away. RestoreFailed."""
    console: Console | None = None
    debugger: Debugger | None = None
    reset: Callable[[], None] | None = None
    """Orders a warm reset, as a reset button does; returns at once. None where there is none, or it is not allowed."""
    memory: PhysicalMemory | None = None
    toolstack: ToolstackName = ToolstackName.XL
    """Who makes and ends domains on it."""
    facts: dict[str, str] = field(default_factory=dict)
    opened: Path | None = None
    """What `Opener.play` left, on a host that was frozen after it and runs on from there."""


class Lab(Protocol):
    """Where hosts come from. Each call gives a host in its original state."""

    def host(
        self, devices: Sequence[str], progress: Progress, *, keep: bool = False, opener: Opener | None = None
    ) -> AbstractContextManager[Host]:
        """With an `opener` the host may, but need not, come with it played (`Host.opened`)."""

    def facts(self) -> dict[str, str]: ...

    def packages(self) -> dict[str, str]: ...

    def abort(self) -> None:
        """End all hosts at once, so that threads which work with them come back."""

    def kept(self) -> list[Path]:
        """Run directories of the hosts that were left running, by any run."""

    def close(self) -> None:
        """Let go of whatever was held for the whole run. Safe to call twice."""

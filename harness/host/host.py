"""A host as scenarios and tests see it: a link, devices, powers it may or may not have, and what it can be told.

Nothing here says whether the host is a machine on a bench or nested in an emulator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self, overload

from harness.base.deadline import Deadline
from harness.base.errors import HostHung, HostUnreachable, LabError, NotAvailable, OutcomeUnknown, UsageError
from harness.guest.initramfs import GuestFiles
from harness.host.boot import await_boot, boot_id
from harness.host.deeds import Deeds
from harness.host.logs import Console, Mark, read_on
from harness.host.pciback import Gate, Guard, ungated, unguarded
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind, Deed, Ledger, NoLedger
from harness.scenario.spec import HostPower
from harness.transport.base import Command, CommandResult, Transport
from harness.transport.debugger import Debugger, PhysicalMemory
from harness.xen.keys.debugkeys import (
    IrqRow,
    MaskRow,
    PatchedFunction,
    PciRow,
    parse_irqs,
    parse_livepatches,
    parse_masks,
    parse_pci_devices,
)
from harness.xen.keys.domainkeys import (
    DomainUsage,
    EventChannel,
    parse_domains,
    parse_event_channels,
    parse_free_memory,
)
from harness.xen.keys.messages import Log
from harness.xen.keys.ring import COMMANDS, advice, last_dump, marks
from harness.xen.toolstack.choice import ToolstackName

if TYPE_CHECKING:
    from harness.base.progress import Progress

_SECONDS = 60.0
_BOOT_SECONDS = 600.0  # a server tests its memory first, and an emulated host may be starved
_STARVED_SECONDS = 1.0  # an emulated host takes a tenth of it


@dataclass(frozen=True)
class Rewritten:
    """Bytes of the hypervisor's running text that a control has changed. A boot brings back those `before`."""

    address: int
    before: bytes
    after: bytes


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


class Lines(tuple[str, ...]):
    """Lines of a log. Where there are none, an assertion that failed shows among how many was looked, and for what."""

    _looked = ""

    def of(self, number: int, pattern: str) -> Self:
        self._looked = f"<{pattern!r} in none of {number} lines>"
        return self

    def __repr__(self) -> str:
        return super().__repr__() if self or not self._looked else self._looked


REBOOT = Deed(ChangeKind.REBOOT, "reboot {host}", "nothing: it undoes all that is volatile")
RESET_BUTTON = Deed(ChangeKind.REBOOT, "reset {host} as by its button", "nothing: it undoes all that is volatile")


@dataclass(repr=False)
class Host:
    """A machine with Xen, and dom0 at the other end of `transport`. Whatever changes it goes through `deeds`."""

    name: str
    transport: Transport
    devices: dict[str, TargetDevice]
    guest_files: GuestFiles
    ledger: Ledger = field(default_factory=NoLedger)
    guard: Guard = unguarded
    gate: Gate = ungated
    """Asked before each bind, and what it answers stands before the bind in the same shell."""
    restore: Callable[[], None] | None = None
    """Puts everything back as it was and verifies it; None for a host that is thrown away. RestoreFailed."""
    console: Console | None = None
    debugger: Debugger | None = None
    rewritten: tuple[Rewritten, ...] = ()
    """How the hypervisor's text differs from its file's."""
    before_livepatch: Callable[[str], None] | None = None
    """Asked before the mutant of this name is made by livepatch: SafetyRefusal, or it is on record and a timer runs.
    None where a debugger does it, or nothing may.
    """
    reset_button: Callable[[], None] | None = None
    """Orders a warm reset; returns at once. None where there is none, or it is not allowed."""
    memory: PhysicalMemory | None = None
    toolstack: ToolstackName = ToolstackName.XL
    """Who makes and ends domains on it."""
    facts: dict[str, str] = field(default_factory=dict)
    opened: Path | None = None
    """What `Opener.play` left, on a host that was frozen after it and runs on from there."""
    began: Mark | None = None
    """Since when its logs are looked at, where nothing else is said; None: since it booted."""
    boots: int = field(default=0, init=False)
    """How often `reboot` and `reset` have brought it back."""
    deeds: Deeds = field(init=False)
    """Who is told of all that is done here; whoever plays on the host says where evidence and actions go."""

    def __post_init__(self) -> None:
        self.deeds = Deeds(self.ledger)

    def __repr__(self) -> str:
        return f"<host {self.name}>"

    def can(self, power: HostPower) -> bool:
        """Whether it has what some tests and scenarios need: a debugger of its hypervisor, a reset button."""
        return {HostPower.DEBUGGER: self.debugger, HostPower.RESET: self.reset_button}[power] is not None

    # -- commands ------------------------------------------------------------------------------------------------------

    def run(self, argv: Command, *, change: Change | None = None, seconds: float = _SECONDS) -> CommandResult:
        """A command in dom0, to its end within `seconds`; any exit status is a result. HostHung, HostUnreachable.

        One that changes the host says what it changes: that goes on record first, and the command is never sent twice.
        """
        if isinstance(argv, str):
            raise UsageError(f"run takes a list of words, not {argv!r}", hint=f"run({argv.split()})")
        deadline = Deadline.after(seconds)
        if change is None:
            result = self.transport.run(argv, deadline=deadline)
            self.deeds.keep("run.txt", result.stdout + result.stderr)
            return result
        with self.deeds.doing("run", change) as act:
            result = self.transport.run(argv, deadline=deadline, changes=True)
            act.by(result)
        return result

    def xl(self, *words: str, change: Change | None = None, seconds: float = _SECONDS) -> CommandResult:
        """One call of xl, as `run`."""
        return self.run(["xl", *words], change=change, seconds=seconds)

    @property
    def starved(self) -> bool:
        """Whether it has next to no processor now, as an emulated host on a machine with too much to do."""
        try:
            return self.transport.run(["true"], deadline=Deadline.after(_SECONDS)).seconds > _STARVED_SECONDS
        except LabError:
            return False

    # -- what it says --------------------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """This moment in both logs."""
        self._press("t")  # prints a line that no other is like
        return Mark(self._log(Log.XEN), self._log(Log.DOM0))

    def xen_console(self, since: Mark | None = None) -> str:
        """What Xen has said, of all that its console ring still holds. LabError when some of it is lost.

        Without `since` from `began` on, where that is set.
        """
        return self._said(Log.XEN, since)

    def dmesg(self, since: Mark | None = None) -> str:
        """What dom0's kernel has said, as `xen_console`."""
        return self._said(Log.DOM0, since)

    def said(self, pattern: str, since: Mark | None = None) -> Lines:
        """The lines of `xen_console` in which this regular expression is found. UsageError for what is none."""
        try:
            wanted = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{pattern!r} is no regular expression: {error}") from None
        lines = self.xen_console(since).splitlines()
        return Lines(filter(wanted.search, lines)).of(len(lines), pattern)

    @overload
    def debug_key(self, key: Literal["M"]) -> tuple[MaskRow, ...]: ...
    @overload
    def debug_key(self, key: Literal["Q"]) -> tuple[PciRow, ...]: ...
    @overload
    def debug_key(self, key: Literal["i"]) -> tuple[IrqRow, ...]: ...
    @overload
    def debug_key(self, key: Literal["x"]) -> tuple[PatchedFunction, ...]: ...
    @overload
    def debug_key(self, key: Literal["e"]) -> tuple[EventChannel, ...]: ...
    @overload
    def debug_key(self, key: Literal["q"]) -> tuple[DomainUsage, ...]: ...
    @overload
    def debug_key(self, key: Literal["m"]) -> int: ...
    @overload
    def debug_key(self, key: str) -> object: ...
    def debug_key(self, key: str) -> object:
        """What Xen prints for a debug key, as the parser of that key reads it; its text for one that has no parser.

        M: MSI masks, Q: PCI devices, i: interrupts, e: event channels, q: domains, x: livepatched functions, each a
        tuple of rows; m: free memory in KiB. ParseError for a dump that is not whole, LabError.
        """
        if not re.fullmatch(r"[A-Za-z0-9*%+?]", key):
            raise UsageError(f"{key!r} is no debug key", hint="one character, as 'xl debug-keys h' lists them")
        text = self.dump(key)
        parser = _KEYS.get(key)
        return parser(text) if parser else text

    def dump(self, keys: str) -> str:
        """All that Xen prints for these debug keys. LabError when its ring is too small for that."""
        before = self._log(Log.XEN)
        self._press(f"t{keys}t")
        now = self._log(Log.XEN)
        fresh = [mark for mark in marks(Log.XEN, now) if mark.group() not in before]
        if len(fresh) < 2:
            told = f"{self.name}: what the debug keys print does not fit into Xen's ring"
            raise LabError(told, hint=advice(Log.XEN, now, b""))
        return last_dump(now).decode("utf-8", "replace")

    def _press(self, keys: str) -> None:
        self.transport.run(["xl", "debug-keys", keys], deadline=Deadline.after(_SECONDS)).check()

    def _log(self, log: Log) -> bytes:
        return self.transport.run(COMMANDS[log], deadline=Deadline.after(_SECONDS)).check().stdout

    def _said(self, log: Log, since: Mark | None) -> str:
        now, mark = self._log(log), since or self.began
        self.deeds.keep(log, now)
        if mark is None:
            return now.decode("utf-8", "replace")
        news = read_on(log, mark.xen if log is Log.XEN else mark.dom0, now, self.transport, self.console)
        if news.console is not None:
            self.deeds.keep(f"console-{log}", news.console.raw)
        if news.lost:
            raise LabError(f"{self.name}: {news.lost}")
        return news.data.decode("utf-8", "replace")

    # -- the machine ---------------------------------------------------------------------------------------------------

    def reboot(self, seconds: float = _BOOT_SECONDS) -> None:
        """An orderly reboot by dom0 itself; the link is connected to the new boot then. Guests and marks are gone.

        HostUnreachable when nothing answers within `seconds`, LabError when it was none.
        """

        def order(deadline: Deadline) -> None:
            try:
                self.transport.run(["systemctl", "reboot"], deadline=deadline.sooner(10), changes=True).check()
            except (OutcomeUnknown, HostUnreachable, HostHung):  # it went faster than its answer; boot_id will tell
                return

        self._boot("reboot", REBOOT, order, seconds, leave=150)  # systemd gives each service 90 s to stop

    def reset(self, seconds: float = _BOOT_SECONDS) -> None:
        """A warm reset as by its button, then as `reboot`. NotAvailable on a host that has none."""
        button = self.reset_button
        if button is None:
            raise NotAvailable(f"{self.name} has no reset button that may be pressed")
        self._boot("reset", RESET_BUTTON, lambda _: button(), seconds, leave=15)

    def _boot(self, name: str, deed: Deed, order: Callable[[Deadline], None], seconds: float, leave: float) -> None:
        deadline = Deadline.after(seconds)
        before = boot_id(self.transport, deadline)
        with self.deeds.doing(name, deed.to(host=self.name)) as act:
            order(deadline)
            now = await_boot(self.transport, before, deadline.sooner(leave), deadline)
            if now is None:
                raise HostUnreachable(f"{self.name}: after a {name} it did not come back", hint="look at its console")
            if now == before:
                raise LabError(f"{self.name}: the {name} was none: boot_id is still {before}")
            act.end(True, f"boot {now}")
        self.boots, self.began = self.boots + 1, None  # the logs begin anew


_KEYS: dict[str, Callable[[str], object]] = {
    "M": parse_masks,
    "Q": parse_pci_devices,
    "i": parse_irqs,
    "x": parse_livepatches,
    "e": parse_event_channels,
    "q": parse_domains,
    "m": parse_free_memory,
}


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

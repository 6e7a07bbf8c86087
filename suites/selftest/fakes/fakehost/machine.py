"""The fake host itself: its functions, domains, modules and clocks, and what can be made to go wrong with it."""

from __future__ import annotations

import copy
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakehost.function import PCIBACK, Function
from suites.selftest.fakes.fakehost.state import State
from suites.selftest.fakes.fakehost.traps import Lost, Moment, Trap, Traps
from suites.selftest.fakes.fakehost.tree import Tree


class Refused(Exception):
    """The kernel's answer to a write: an errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


@dataclass
class Domain:
    name: str
    domid: int
    kind: str = "hvm"
    memory: int = 128
    devices: tuple[str, ...] = ()
    zombie: bool = False


@dataclass
class Timer:
    """A transient unit of systemd."""

    due: float  # on the host's own clock, seconds
    argv: tuple[str, ...]


@dataclass
class FakeHost(State):
    """One machine in the directory `root`. `functions` are those it boots with, by default those of `board`.

    Switches, to be set at any time: `half_way` (binding these to pciback unbinds and then fails), `zombies` (destroy
    leaves the domain half dead), `hotplug` (an interface that appears is brought up by the system), `full` (no file can
    be written), `answers_reboot` (an ordered reboot says so before the link goes), `moves_at_reboot` (buses from 1 on
    shift by so many), `dead_seconds` (real time without sshd).
    """

    root: Path
    boot_functions: list[Function] = field(default_factory=board.functions)
    half_way: set[str] = field(default_factory=set)
    zombies: bool = False
    hotplug: bool = False
    full: bool = False
    answers_reboot: bool = True
    moves_at_reboot: int = 0
    dead_seconds: float = 0.05
    clock_offset: float = 0.0  # seconds the host's date is ahead of ours
    executed: list[tuple[str, ...]] = field(default_factory=list)  # changing programs that were run
    lines: list[str] = field(default_factory=list)  # everything that came over ssh

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.functions = {}
        self.domains: dict[int, Domain] = {}
        self.xenstore: dict[str, str] = {}
        self.timers: dict[str, Timer] = {}
        self.dmesg: list[str] = []
        self.console: list[str] = []  # Xen's ring
        self.boots = 0
        self.later: list[Callable[[], None]] = []  # to be done once the answer was sent
        self.on_reboot: list[Callable[[], None]] = []
        self.on_timer: Callable[[tuple[str, ...]], None] = lambda argv: None
        self.traps = Traps(lambda: self.boots)
        self._stuck, self._over = threading.Event(), False
        self._advanced = 0.0
        self.tree = Tree(self.root, self)
        self.tree.first()
        self._boot()

    # -- clocks ------------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """The host's clock runs on; timers that are due strike, in order."""
        with self.lock:
            self._advanced += seconds
            self.clock_offset += seconds
            self.tree.uptime()
        self.strike()

    def strike(self) -> None:
        """Run what is due."""
        while True:
            with self.lock:
                due = sorted((timer.due, name) for name, timer in self.timers.items() if timer.due <= self.uptime)
                if not due:
                    return
                timer = self.timers.pop(due[0][1])
            self.on_timer(timer.argv)

    # -- boot --------------------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        self._stuck.set()  # what hung died with the machine
        self._stuck = threading.Event()
        self._since, self._advanced = time.monotonic(), 30.0
        self.boots += 1
        self.boot_id = str(uuid.uuid4())
        self.functions = {function.bdf: copy.deepcopy(function) for function in self.boot_functions}
        self.domains = {0: Domain("Domain-0", 0, "pv", 1024)}
        self._next_domid = 1
        self.modules = set(board.MODULES) - board.NOT_AT_BOOT - board.BUILT_IN
        self.slots, self.timers = set(), {}
        self.xenstore = {"/local/domain/0/name": "Domain-0", "/local/domain/0/domid": "0", "/libxl": ""}
        self.dmesg, self.console = ["[    0.000000] Linux version " + board.RELEASE], ["(XEN) Xen version 4.20.4"]
        buses = {function.parent: function.bus for function in self.functions.values() if function.parent}
        for function in self.functions.values():
            function.power_on(buses.get(function.bdf, 0))
            self.drive(function, function.driver)
            function.up = True
        self.tree.boot()

    def reboot(self) -> None:
        """At once: links drop, everything volatile is gone, it boots."""
        with self.lock:
            self._shift(self.moves_at_reboot)
            self.moves_at_reboot = 0
            self._boot()
        for act in self.on_reboot:
            act()

    def _shift(self, buses: int) -> None:
        for function in self.boot_functions:
            if function.bus:
                function.bdf = f"0000:{function.bus + buses:02x}{function.bdf[7:]}"

    def plug_twin(self, of: str, **differing: Any) -> str:  # noqa: ANN401  (fields of Function)
        """A second card of the same kind appears in a slot of its own, now and at every boot. Its BDF."""
        with self.lock:
            number = max(function.bus for function in self.boot_functions) + 0x10
            port = f"0000:00:1d.{sum(f.bdf.startswith('0000:00:1d.') for f in self.boot_functions)}"
            pattern = next(function for function in self.boot_functions if function.bdf == of)
            twin = copy.deepcopy(pattern)
            twin.bdf, twin.parent, twin.slot = f"0000:{number:02x}:00.0", port, None
            twin.net, twin.nvme = pattern.net and f"eth{number}", pattern.nvme and f"nvme{number}"
            for name, value in differing.items():
                setattr(twin, name, value)
            bridge = Function(port, "8086:a338", 0x060400, "pcieport", vectors=1, flr=False, resets=("pm",))
            self.boot_functions += [bridge, twin]
            for added, below in ((bridge, number), (twin, 0)):
                function = copy.deepcopy(added)
                function.power_on(below)
                self.drive(function, function.driver)
                self.functions[function.bdf] = function
                self.tree.plug(function)
            return twin.bdf

    def new_domid(self) -> int:
        self._next_domid += 1
        return self._next_domid - 1

    # -- devices -----------------------------------------------------------------------------------------------------

    @staticmethod
    def drive(function: Function, driver: str | None) -> None:
        """Bind without asking, or unbind with None."""
        function.bound = driver
        function.drive(working=driver is not None and driver == function.driver)

    def bind(self, bdf: str, driver: str) -> None:
        """As a write to `bind`: Refused when the kernel would refuse."""
        function = self.functions.get(bdf)
        if function is None or driver not in self.drivers or function.bound:
            raise Refused(16 if function and function.bound else 19)
        if driver == PCIBACK and bdf in self.half_way:
            raise Refused(16)
        if function.override:
            suits = function.override == driver
        else:
            suits = driver == function.driver or (driver == PCIBACK and bdf in self.slots)
        if not suits:
            raise Refused(19)
        self.drive(function, driver)
        function.up = self.hotplug and driver == function.driver
        self.tree.show(function)

    def unbind(self, bdf: str, driver: str) -> None:
        function = self.functions.get(bdf)
        if function is None or function.bound != driver:
            raise Refused(19)
        self.drive(function, None)
        self.tree.show(function)

    def probe(self, bdf: str) -> None:
        function = self.functions.get(bdf)
        if function is None:
            raise Refused(22)
        driver = function.override or function.driver
        if not function.bound and driver in self.drivers:
            self.bind(bdf, driver)

    @property
    def drivers(self) -> set[str]:
        return {board.MODULES[name] for name in self.modules | board.BUILT_IN}

    # -- what goes wrong ---------------------------------------------------------------------------------------------

    def trap(
        self, act: Callable[[], object], *, nth: int = 1, moment: Moment = Moment.BEFORE,
        program: str | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        """Once, do `act` at the nth changing program from now on, or program (its words) or ssh command like this."""
        self.traps.pending.append(Trap(act, moment, nth, program, line))

    def hang(self, **where: Any) -> None:  # noqa: ANN401  (as for `trap`)
        """That program never ends, until the machine reboots."""
        self.trap(self._hang, **where)

    def _hang(self) -> None:
        self._stuck.wait()
        if self._over:
            raise Lost

    def release(self) -> None:
        """What hangs goes on."""
        self._stuck.set()

    def end(self) -> None:
        """Of the test: what hangs will never go on."""
        self._over = True
        self.release()

    # -- what tests look at ------------------------------------------------------------------------------------------

    def ran(self, pattern: str) -> int:
        """How often a changing program like this was run."""
        return sum(bool(re.search(pattern, " ".join(argv))) for argv in self.executed)

    def state(self) -> dict[str, Any]:
        """Everything that must be as before once the host was given back, to be compared as a whole."""
        with self.lock:
            ours = self.tree.real("/run/maskall")
            return {
                "functions": {
                    bdf: {
                        "driver": function.bound,
                        "override": function.override,
                        "command": function.command,
                        "msix": function.msix,
                        "power_control": function.power_control,
                        "numvfs": function.numvfs,
                        "owner": function.owner,
                        "resets": function.resets,
                        "up": function.up or not function.net,
                    }
                    for bdf, function in sorted(self.functions.items())
                },
                "domains": {domid: domain.name for domid, domain in sorted(self.domains.items())},
                "modules": sorted(self.modules),
                "slots": sorted(self.slots),
                "libxl": sorted(key for key in self.xenstore if key.startswith("/libxl/")),
                "timers": sorted(self.timers),
                "files": sorted(str(path.relative_to(ours)) for path in ours.rglob("*") if path.is_file()),
            }

"""What a run is asked for, the same for `maskall run` and for pytest, and turned into a plan. Imports nothing heavy."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import UsageError

if TYPE_CHECKING:
    from harness.base.progress import Progress
    from harness.host.host import Lab
    from harness.judge.known import KnownIssue
    from harness.lab.inventory.models import HostEntry
    from harness.lab.lease.site import Site
    from harness.mutants.catalogue import Mutant
    from harness.run.plan import Plan
    from harness.scenario.spec import Scenario
    from harness.xen.toolstack.choice import ToolstackName

DEFAULT_PROFILE = "ci"
DEFAULT_STACK = "trixie"
DEFAULT_TOOLSTACK = "xl"
OUR_INVENTORY = Path(__file__).parents[2] / "inventory" / "nested.yaml"
DEFAULT_CONTROL = "no-maskall-reset"
_MOST_WORKERS = 2


@dataclass(frozen=True)
class RunOptions:
    """One field per option; `harness.plugin` makes `--maskall-FIELD` of each."""

    scenario: tuple[str, ...] = ()
    profile: str = DEFAULT_PROFILE
    inventory: Path | None = None
    host: str | None = None
    stack: str | None = None  # instead of the inventory's
    toolstack: str = DEFAULT_TOOLSTACK  # xl or libvirt
    device: tuple[str, ...] = ()  # instead of the inventory's
    mutant: str | None = None
    no_control: bool = False
    mutants: Path | None = None
    known_issues: Path | None = None
    results: Path | None = None
    keep: bool = False
    trace: bool = False
    rounds: int = 0  # instead of the catalogue's, for scenarios that have rounds
    cold: bool = False
    workers: int = 0  # hosts at a time; 0: as many as suit
    accept: tuple[str, ...] = ()  # CHECK=REASON, for a lab host
    wait: int = 0  # seconds, for a lab host that is claimed
    take_over: str | None = None  # the reason for taking it from whoever claims it
    yes: bool = False  # missing packages may be installed through sudo

    def arguments(self) -> list[str]:
        """The same as options of pytest; what is as by default is left out."""
        words: list[str] = []
        for one in fields(self):
            value = getattr(self, one.name)
            if value == one.default:
                continue
            name = f"--maskall-{one.name.replace('_', '-')}"
            several = value if isinstance(value, tuple) else (value,)
            words += [name] if value is True else [f"{name}={item}" for item in several]
        return words

    @property
    def control(self) -> str | None:
        """The mutant the scenarios are held against."""
        return None if self.no_control or self.in_lab else self.mutant or DEFAULT_CONTROL

    @property
    def hosts_at_a_time(self) -> int:
        """An emulated host keeps one processor busy, and needs its memory; more than two were never measured."""
        if self.in_lab:
            return 1
        return self.workers or min(_MOST_WORKERS, os.cpu_count() or 1)

    @property
    def under_test(self) -> str | None:
        """The mutant that takes the place of the stock hypervisor."""
        return self.mutant if self.no_control else None

    def scenarios(self) -> list[Scenario]:
        """The rows asked for. Raises UsageError or InventoryError for any option that is wrong: this is the check."""
        from harness.run.selection import chosen

        return chosen(self)

    @cached_property
    def _entry(self) -> HostEntry:
        from harness.lab.inventory.models import NestedEntry, load_inventory

        if self.inventory is None and not OUR_INVENTORY.exists():  # installed without a checkout
            return NestedEntry(kind="nested", devices=())
        return load_inventory(self._inventory).host(self.host)

    @property
    def _inventory(self) -> Path:
        return self.inventory or OUR_INVENTORY

    @property
    def site(self) -> Site:
        from harness.lab.lease.site import Site

        return Site.find(self._inventory, self.host)

    @property
    def in_lab(self) -> bool:
        """A machine on a bench, not one that the harness makes."""
        return self._entry.kind == "lab"

    @property
    def stack_name(self) -> str:
        """What was asked for, else the inventory's."""
        return self.stack or (self._entry.stack if self._entry.kind == "nested" else DEFAULT_STACK)

    @property
    def device_names(self) -> list[str]:
        """What was asked for, else the inventory's; each once."""
        return list(dict.fromkeys(self.device or self._entry.devices))

    @property
    def libvirt(self) -> bool:
        from harness.xen.toolstack.choice import ToolstackName

        return self.toolstack_name() is ToolstackName.LIBVIRT

    def toolstack_name(self) -> ToolstackName:
        """UsageError for a toolstack that there is not."""
        from harness.xen.toolstack.choice import ToolstackName

        return ToolstackName.of(self.toolstack)

    def known_mutants(self) -> dict[str, Mutant]:
        """Ours and the user's, once the one asked for is among them and each names endings that there are."""
        from harness.base.yamlfile import nearest
        from harness.mutants.catalogue import catalogue, pick
        from harness.play.catalogue import catalogue as scenarios

        known = catalogue(self.mutants)
        pick(self.mutant or DEFAULT_CONTROL, known)
        endings = scenarios().endings
        for name, mutant in known.items():
            for ending in mutant.notices:
                if ending not in endings:
                    raise UsageError(
                        f"{self.mutants}: mutant {name}: there is no ending {ending!r}", hint=nearest(ending, endings)
                    )
        return known

    def issues(self) -> dict[str, KnownIssue]:
        """Ours and the user's."""
        from harness.judge.known import known_issues

        return known_issues(self.known_issues)

    def plan(self, scenarios: Iterable[Scenario]) -> Plan:
        """The plan for `scenarios`, with the results directory made."""
        from harness.run.plan import Plan

        return Plan(
            scenarios=tuple(scenarios),
            mutants=self.known_mutants(),
            control=self.control,
            under_test=self.under_test,
            results=self.results_directory(),
            keep=self.keep,
            cold=self.cold,
            workers=self.hosts_at_a_time,
            issues=self.issues(),
            trace=self.trace,
            toolstack=self.toolstack_name(),
            strict_messages=self._strict_messages,
            repeat_options=self.repeat_options,
        )

    def results_directory(self) -> Path:
        """A new directory, made. Raises UsageError."""
        named = self.results
        first = named or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        for number in range(1, 100):
            folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
            try:
                folder.mkdir(parents=True, exist_ok=named is not None)
            except FileExistsError:
                continue  # another run began in the same second
            except OSError as error:
                hint = "give --results a directory you can write to"
                raise UsageError(f"cannot make {folder}: {error.strerror}", hint=hint) from error
            return folder.absolute()
        raise UsageError(f"{first} and a hundred others exist", hint="give --results a directory")

    @cached_property
    def _strict_messages(self) -> bool:
        """Whether the profile is strict; also when scenarios were named and it does not choose them."""
        from harness.play.catalogue import catalogue

        return catalogue().profile(self.profile).strict_messages

    @property
    def repeat_options(self) -> str:
        """What `maskall run` needs besides the scenario's name to do the same again; empty or with a leading blank."""
        words: list[str] = []
        words += ["--profile", self.profile] if self._strict_messages else []
        words += ["--inventory", str(self.inventory)] if self.inventory else []
        words += ["--host", self.host] if self.host else []
        words += ["--stack", self.stack] if self.stack else []
        words += ["--toolstack", self.toolstack] if self.toolstack != DEFAULT_TOOLSTACK else []
        words += ["--mutant", self.mutant] if self.mutant else []
        words += ["--no-control"] if self.no_control else []
        words += ["--rounds", str(self.rounds)] if self.rounds else []
        words += ["--cold"] if self.cold else []
        words += ["--mutants", str(self.mutants)] if self.mutants else []
        words += ["--known-issues", str(self.known_issues)] if self.known_issues else []
        words += [word for one in self.accept for word in ("--accept", one)]
        return f" {shlex.join(words)}" if words else ""

    def prepared_lab(self, scenarios: Iterable[Scenario], progress: Progress) -> Lab:
        """The lab, ready to hand out hosts. Raises UsageError, LabError."""
        from harness.run.prepare import lab_for

        return lab_for(self, scenarios, progress)

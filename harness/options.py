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

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.lab.host import Lab
    from harness.lab.inventory import HostEntry
    from harness.lab.site import Site
    from harness.mutants.catalogue import Mutant
    from harness.nested.lab import NestedLab
    from harness.plan import Plan
    from harness.report.progress import Progress
    from harness.scenario.choose import Candidate
    from harness.scenario.known import KnownIssue
    from harness.scenario.spec import Scenario
    from harness.xen.toolstacks import ToolstackName

DEFAULT_PROFILE = "ci"
DEFAULT_STACK = "trixie"
DEFAULT_TOOLSTACK = "xl"
OUR_INVENTORY = Path(__file__).parents[1] / "inventory" / "nested.yaml"
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
        from harness.scenario.choose import select
        from harness.scenario.spec import catalogue

        if self.workers < 0:
            raise UsageError(f"--workers {self.workers}: at least one is needed")
        candidates = self._lab_candidates() if self.in_lab else self._nested_candidates()
        self.toolstack_name()
        self.known_mutants()
        self._known_issues()
        self._check_results()
        rows = self._playable(select(catalogue(), candidates, list(self.scenario), self.profile))
        self._refuse_to_strand(rows)
        if not self.rounds:
            return rows
        if not any(row.follow.rounds for row in rows):
            raise UsageError("--rounds is for scenarios that have rounds", hint="name one: 'maskall run E3-F7'")
        return [row.with_rounds(self.rounds) for row in rows]

    def _playable(self, rows: list[Scenario]) -> list[Scenario]:
        """Those that the toolstack can play; UsageError when there is none."""
        from harness.scenario.choose import why_not_through

        holes = {row.id: hole for row in rows if (hole := why_not_through(row, self.toolstack))}
        if rows and len(holes) == len(rows):
            raise UsageError(f"{rows[0].id} cannot be: {holes[rows[0].id].reason}", hint="see maskall coverage")
        return [row for row in rows if row.id not in holes]

    def _refuse_to_strand(self, rows: list[Scenario]) -> None:
        """virNodeDeviceReAttach leaves the device in Xen's quarantine: dom0's driver has it, and it cannot work."""
        from harness.scenario.spec import Verb

        if not (self.in_lab and self.libvirt):
            return
        for row in rows:
            if Verb.BACK_TO_DOM0 in row.follow.steps:
                raise UsageError(
                    f"{row.id}: through libvirt a device does not get back to dom0 in working order",
                    hint="on a lab host take another follow-on, or --toolstack xl",
                )

    def _nested_candidates(self) -> list[Candidate]:
        from harness.nested.devices import candidates
        from harness.nested.devices import catalogue as models
        from harness.nested.devices import select as select_devices
        from harness.nested.stacks import stack

        for option, given in (("accept", self.accept), ("wait", self.wait), ("take-over", self.take_over)):
            if given:
                raise UsageError(f"--{option} is for a lab host", hint="name one with --host and --inventory")
        stack(self.stack_name)
        devices = self.device_names
        offer = frozenset(model.model for model in models().values())  # whether QEMU has it is seen when it is asked
        chosen = select_devices(devices, offer)
        if not devices:
            raise UsageError("the host has no device to borrow", hint="name one in the inventory, or with --device")
        return candidates(chosen)

    def _lab_candidates(self) -> list[Candidate]:
        from harness.lab.wishes import accepted

        for option, given in (("stack", self.stack), ("mutant", self.mutant)):
            if given:
                raise UsageError(f"--{option} is for the nested host: a lab host's hypervisor is not changed")
        if self.trace:
            raise UsageError("--trace is for the nested host: a lab host has no debugger to stop its hypervisor with")
        if self.workers:
            raise UsageError("--workers is for the nested host: a lab host plays one scenario at a time")
        if self.keep:
            raise UsageError("--keep is for the nested host: a lab host is always given back")
        accepted(self.accept)
        return self._site.candidates(self.device)

    @cached_property
    def _entry(self) -> HostEntry:
        from harness.lab.inventory import NestedEntry, load_inventory

        if self.inventory is None and not OUR_INVENTORY.exists():  # installed without a checkout
            return NestedEntry(kind="nested", stack="trixie", devices=())
        return load_inventory(self._inventory).host(self.host)

    @property
    def _inventory(self) -> Path:
        return self.inventory or OUR_INVENTORY

    @property
    def _site(self) -> Site:
        from harness.lab.site import Site

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
        from harness.xen.toolstacks import ToolstackName

        return self.toolstack_name() is ToolstackName.LIBVIRT

    def toolstack_name(self) -> ToolstackName:
        """UsageError for a toolstack that there is not."""
        from harness.xen.toolstacks import ToolstackName

        return ToolstackName.of(self.toolstack)

    def known_mutants(self) -> dict[str, Mutant]:
        """Ours and the user's, once the one asked for is among them and each names endings that there are."""
        from harness.mutants.catalogue import catalogue, pick
        from harness.scenario.spec import catalogue as scenarios
        from harness.yamlfile import nearest

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

    def _known_issues(self) -> dict[str, KnownIssue]:
        """Ours and the user's."""
        from harness.scenario.known import known_issues

        return known_issues(self.known_issues)

    def _check_results(self) -> None:
        """Evidence is never written over other evidence."""
        folder = self.results
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is not a directory", hint="--results wants a new or an empty directory")
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty", hint="give --results a new directory, or remove this one")

    def plan(self, scenarios: Iterable[Scenario]) -> Plan:
        """The plan for `scenarios`, with the results directory made."""
        from harness.plan import Plan

        return Plan(
            scenarios=tuple(scenarios),
            mutants=self.known_mutants(),
            control=self.control,
            under_test=self.under_test,
            results=self.results_directory(),
            keep=self.keep,
            cold=self.cold,
            workers=self.hosts_at_a_time,
            issues=self._known_issues(),
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
        from harness.scenario.spec import catalogue

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
        """The lab, ready to hand out hosts: built and frozen, or claimed and checked."""
        devices = list(dict.fromkeys(device for scenario in scenarios for device in scenario.devices))
        self._bring_library(progress)
        if self.in_lab:
            from harness.lab.real import RealLab
            from harness.lab.wishes import Wishes, accepted

            wishes = Wishes(accepted(self.accept), self.wait, self.take_over, reason="maskall run")
            return RealLab.opened(self._site, devices, wishes, progress)
        return prepared_lab(self.stack_name, devices, progress, sudo=self.yes)

    def _bring_library(self, progress: Progress) -> None:
        from harness.nested import prerequisites
        from harness.nested.cache import Cache

        if self.libvirt:
            log = Cache().root / "logs" / "packages.log"
            prerequisites.install_libvirt(progress, log=log, sudo=self.yes)


def prepared_lab(stack_name: str, devices: list[str], progress: Progress, *, sudo: bool = False) -> NestedLab:
    """A nested lab that hands out hosts at once. Raises UsageError, LabError."""
    from harness.nested import prerequisites
    from harness.nested.cache import Cache
    from harness.nested.lab import NestedLab
    from harness.nested.stacks import stack

    cache = Cache()
    prerequisites.install(progress, log=cache.root / "logs" / "packages.log", sudo=sudo)
    lab = NestedLab(stack(stack_name), devices, cache, progress)
    progress.note(f"accelerator {lab.accelerator.name}: {lab.accelerator.why}")
    assert lab.snapshot  # noqa: S101 - a cached property: made here, before two threads could both want to
    return lab

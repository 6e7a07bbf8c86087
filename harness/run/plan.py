"""What a run shall do: scenarios, the hypervisors that each is played on, and how."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.host.host import Opener
from harness.judge.known import KnownIssue
from harness.lab.safety.livepatch_gate import ALLOWED_MUTANTS
from harness.mutants.catalogue import Mutant
from harness.play.catalogue import catalogue
from harness.play.run import play_opening
from harness.play.stage.warm_files import code_digest
from harness.play.stage.warm_start import opening_key
from harness.run.options import CONTROL_XEN, DEFAULT_CONTROL, RunOptions
from harness.scenario.spec import ControlRole, Scenario

STOCK = "stock"


@dataclass(frozen=True)
class Plan:
    """What a run shall do: what was asked for, with what its files say, and where results go."""

    scenarios: tuple[Scenario, ...]
    options: RunOptions
    mutants: dict[str, Mutant]
    issues: dict[str, KnownIssue]
    results: Path

    @classmethod
    def of(cls, options: RunOptions, scenarios: Iterable[Scenario], *, results: Path | None = None) -> Plan:
        """The plan for `scenarios`; without a directory for the results a new one is made. Raises UsageError."""
        mutants, issues = options.known_mutants(), options.issues()
        return cls(tuple(scenarios), options, mutants, issues, results or options.results_directory())

    @property
    def tested(self) -> str:
        """The hypervisor under test: STOCK, or the mutant that takes its place."""
        return self.options.under_test or STOCK

    def hypervisors(self, scenario: Scenario) -> list[str]:
        """What the scenario is played on: the one under test, and its control where it has one."""
        control = self.control(scenario)
        return [self.tested] if control is None else [self.tested, control]

    def opening(self, scenario: Scenario, name: str) -> str | None:
        """The opening that `scenario` may go on from on this hypervisor; None: it is played from its beginning."""
        asked, planted = self.options, name not in (STOCK, CONTROL_XEN)
        if asked.cold or asked.trace or asked.challenge or (planted and not self.mutants[name].from_c2):
            return None
        if self.options.libvirt:  # libvirt's connection would not outlive the freeze
            return None
        return opening_key(scenario)

    def opener(self, scenario: Scenario, name: str) -> Opener | None:
        """What plays that opening on a host that is to be frozen after it."""
        key = self.opening(scenario, name)
        if key is None:
            return None
        digest = hashlib.sha256(f"{code_digest()}\n{key}".encode()).hexdigest()
        return Opener(digest, self._wanted[key], functools.partial(play_opening, scenario))

    @cached_property
    def _wanted(self) -> Counter[str | None]:
        """How many hosts of this run may begin with each opening."""
        return Counter(
            self.opening(scenario, name) for scenario in self.scenarios for name in self.hypervisors(scenario)
        )

    def control(self, scenario: Scenario) -> str | None:
        """The mutant that the scenario is held against: the run's if that is in its reach, else its ending's.

        None: it has neither, --mutant asked for another one, or it is none that a lab host may be made.
        """
        common = self.options.control
        if common is None:
            return None
        if scenario.control_role(self.notices) is not ControlRole.NONE:
            return common
        own = None if self.options.mutant else catalogue().control_of(scenario.ending)
        return own if not self.options.in_lab or own in ALLOWED_MUTANTS else None

    def role(self, scenario: Scenario) -> ControlRole:
        """What the scenario promises of its control."""
        if self.control(scenario) is None:
            return ControlRole.NONE
        return ControlRole.NOTICES if self.is_own(scenario) else scenario.control_role(self.notices)

    @property
    def notices(self) -> tuple[str, ...]:
        """The endings that must see the run's control. A hypervisor that was given as one lacks the fix itself."""
        control = self.options.control
        if control is None:
            return ()
        return self.mutants[DEFAULT_CONTROL if control == CONTROL_XEN else control].notices

    def is_own(self, scenario: Scenario) -> bool:
        """Whether its control is its ending's and not the run's."""
        return self.control(scenario) not in (None, self.options.control)

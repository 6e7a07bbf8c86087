"""What a run shall do: scenarios, the hypervisors that each is played on, and how."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.host.host import Opener
from harness.judge.known import KnownIssue
from harness.mutants.catalogue import Mutant
from harness.play.run import play_opening
from harness.play.stage.warm_files import code_digest
from harness.play.stage.warm_start import opening_key
from harness.run.options import RunOptions
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

    @property
    def tested(self) -> str:
        """The hypervisor under test: STOCK, or the mutant that takes its place."""
        return self.options.under_test or STOCK

    def hypervisors(self, scenario: Scenario) -> list[str]:
        """What the scenario is played on: the one under test, and the control where it promises something."""
        return [self.tested] if self.role(scenario) is ControlRole.NONE else [self.tested, str(self.options.control)]

    def opening(self, scenario: Scenario, name: str) -> str | None:
        """The opening that `scenario` may go on from on this hypervisor; None: it is played from its beginning."""
        if self.options.cold or self.options.trace or (name != STOCK and not self.mutants[name].from_c2):
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

    def role(self, scenario: Scenario) -> ControlRole:
        control = self.options.control
        return ControlRole.NONE if control is None else scenario.control_role(self.mutants[control].notices)

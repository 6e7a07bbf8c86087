"""What a run shall do: scenarios, the hypervisors that each is played on, and how."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness.host.host import Opener
from harness.judge.known import KnownIssue
from harness.model.verdict import ControlRole
from harness.mutants.catalogue import Mutant
from harness.play.run import play_opening
from harness.play.stage.opened import code_digest
from harness.play.stage.opening import opening_key
from harness.scenario.spec import Scenario
from harness.xen.toolstack.choice import ToolstackName

STOCK = "stock"


@dataclass(frozen=True)
class Plan:
    """What a run shall do. `control` and `under_test` name a mutant; None is no control, and the stock hypervisor."""

    scenarios: tuple[Scenario, ...]
    mutants: dict[str, Mutant]
    control: str | None
    under_test: str | None
    results: Path
    keep: bool = False
    cold: bool = False  # every scenario from its beginning
    workers: int = 1  # hosts at a time
    issues: dict[str, KnownIssue] = field(default_factory=dict)
    trace: bool = False
    toolstack: ToolstackName = ToolstackName.XL
    strict_messages: bool = False  # a line of Xen or dom0 that no rule describes fails the side under test
    repeat_options: str = ""  # what `maskall run` needs besides the scenario's id to do the same again

    def hypervisors(self, scenario: Scenario) -> list[str]:
        """What the scenario is played on: the one under test, and the control where it promises something."""
        tested = self.under_test or STOCK
        return [tested] if self.role(scenario) is ControlRole.NONE else [tested, str(self.control)]

    def opening(self, scenario: Scenario, name: str) -> str | None:
        """The opening that `scenario` may go on from on this hypervisor; None: it is played from its beginning."""
        if self.cold or self.trace or (name != STOCK and not self.mutants[name].from_c2):
            return None
        if self.toolstack is not ToolstackName.XL:  # libvirt's connection would not outlive the freeze
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
        if self.control is None:
            return ControlRole.NONE
        return scenario.control_role(self.mutants[self.control].notices)

"""run.json: what a run was about to do, written before its first change. Pure.

With the record.json of each side it is all that results.json is made from (docs/evidence.md).
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import AwareDatetime, Field

from harness.base.strict import StrictModel
from harness.report.results import HostSummary, Parent
from harness.scenario.spec import ControlRole, Scenario

NAME = "run.json"
VERSION: Final = "1"
KNOWN_ISSUES = "known_issues.yaml"


class Begun(StrictModel):
    """A run, on which hypervisors it was to be played, and on which host."""

    version: Literal["1"] = VERSION
    tool_version: str
    run_id: str
    started: AwareDatetime
    host: HostSummary
    scenarios: tuple[str, ...] = Field(description="ids, in the order of the results")
    under_test: str = Field(description="'stock', or the name of a mutant")
    control: str | None = Field(description="the mutant that the scenarios are held against")
    notices: tuple[str, ...] = Field(description="endings that must see the control")
    own_controls: dict[str, str] = Field(default={}, description="mutants of scenarios that have another one")
    known_issues: str | None = Field(description="SHA-256 of the user's own known_issues.yaml, of which this is a copy")
    repeat_options: str
    challenge: str | None = Field(default=None, description="what the guests answer")
    parent: Parent | None = Field(default=None, description="the run that this one supplements")

    def control_of(self, scenario: str) -> str | None:
        """The mutant that this scenario is held against, if it is against any."""
        return self.own_controls.get(scenario, self.control)

    def role(self, scenario: Scenario) -> ControlRole:
        """What the scenario promises of its control."""
        if scenario.id in self.own_controls:
            return ControlRole.NOTICES
        return ControlRole.NONE if self.control is None else scenario.control_role(self.notices)

    def hypervisors(self, scenario: Scenario) -> tuple[str, ...]:
        """The one under test, and the control where the scenario promises something of it."""
        control = self.control_of(scenario.id)
        alone = control is None or self.role(scenario) is ControlRole.NONE
        return (self.under_test,) if alone else (self.under_test, str(control))

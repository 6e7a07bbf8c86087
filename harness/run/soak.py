"""Many runs of scenarios that take the hazard, each on a freshly restored stock host: how often is a false alarm?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.progress import Progress
from harness.host.host import Lab
from harness.report.soak import Soak, SoakRun, running_line, soak_run
from harness.run.many import store_soak
from harness.run.plan import STOCK, Plan
from harness.run.schedule import Schedule
from harness.run.session import Session
from harness.run.side import SideOutcome, SidePlayer
from harness.scenario.spec import Scenario


@dataclass
class Soaking:
    """A soak under way. `plan` is that of one run; no run begins after `last_begin`."""

    lab: Lab
    soak: Soak
    plan: Plan
    scenarios: dict[str, Scenario]
    progress: Progress
    last_begin: Deadline | None = None
    _left: list[int] = field(default_factory=list)

    def run(self) -> Soak:
        """All runs that are still to be done. What has ended is on disk whatever happens, Ctrl-C included."""
        self._left = list(self.soak.open)
        self._store()
        with Schedule(self._next_run, self.plan.options.hosts_at_a_time, self.lab.abort) as ended:
            for number, session, outcome in ended:
                session.take(outcome)
                result = session.conclude(outcome.scenario)
                session.finished.append(result)
                session.finish()
                results = session.plan.results.relative_to(self.plan.results).as_posix()
                self._add(soak_run(number, result, results))
        return self.soak

    def _next_run(self) -> Callable[[], tuple[int, Session, SideOutcome]] | None:
        if not self._left or (self.last_begin is not None and self.last_begin.expired):
            return None
        number = self._left.pop(0)
        scenario = self.scenarios[self.soak.scenario_of(number)]
        plan = replace(self.plan, results=self._free(f"runs/{number:04d}"))
        progress = self.progress.side(f"run {number}")
        player = SidePlayer(self.lab, plan, scenario, STOCK, progress.side(f"{scenario.id} {STOCK}"))
        session = Session(self.lab, plan, progress)
        session.begin()
        return lambda: (number, session, player())

    def _free(self, folder: str) -> Path:
        """A run that was broken off has left evidence there, and evidence is never written over."""
        places = (self.plan.results / (folder + (f"-{again}" if again else "")) for again in range(1000))
        return next(place for place in places if not place.exists())

    def _add(self, run: SoakRun) -> None:
        self.soak = self.soak.with_run(run)
        self._store()
        self.progress.note(running_line(self.soak, run))

    def _store(self) -> None:
        store_soak(self.soak, self.plan.results)

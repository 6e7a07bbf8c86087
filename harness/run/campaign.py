"""Plays scenarios on mutants, two at a time, and writes the matrix after every one of them."""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness.base.errors import UsageError
from harness.base.progress import Progress
from harness.judge.judge import judge
from harness.mutants.catalogue import Mutant
from harness.play.stage.stage import StopCondition
from harness.report.matrix import KillMatrix, MatrixCell, Row, cell, signatures
from harness.report.results import Control
from harness.run.many import store_matrix
from harness.run.plan import STOCK
from harness.run.schedule import Schedule
from harness.run.session import Session
from harness.run.side import SideOutcome, SidePlayer
from harness.scenario.spec import Scenario


@dataclass
class Campaign:
    """Every mutant named through the scenarios until one sees it, or with `every` through all of them."""

    session: Session
    names: Sequence[str]
    progress: Progress
    every: bool = False
    before: KillMatrix | None = None  # a campaign that was interrupted; what it settled is not played again
    _cells: dict[tuple[str, str], MatrixCell] = field(default_factory=dict)
    _under_way: set[tuple[str, str]] = field(default_factory=set)
    _stock_tries: Counter[str] = field(default_factory=Counter)  # by scenario
    _begun: float = field(default_factory=time.monotonic)
    _played: int = 0

    def __post_init__(self) -> None:
        if self.before is None:
            return
        if self.before.host.facts != self.session.host.facts:
            raise UsageError("the campaign to be resumed ran on another host", hint="begin a new one")
        known = [(STOCK, one) for one in self.before.stock]
        known += [(row.name, one) for row in self.before.mutants for one in row.cells]
        self._cells = {(name, one.scenario): one for name, one in known if not one.verdict.unsettled}

    @property
    def stack(self) -> str:
        return self.session.host.facts.get("stack", "unknown")

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        return self.session.plan.scenarios

    def run(self) -> KillMatrix:
        """An interrupt ends all hosts at once; what was played is on disk."""
        with Schedule(self._next_cell, self.session.plan.options.hosts_at_a_time, self.session.lab.abort) as ended:
            for outcome in ended:
                self._add(outcome)
        return self._write()

    @property
    def _columns(self) -> tuple[str, ...]:
        """Scenarios of this campaign and of the one before."""
        before = self.before.scenarios if self.before else ()
        return tuple(dict.fromkeys([*before, *(scenario.id for scenario in self.scenarios)]))

    @property
    def _all_names(self) -> list[str]:
        before = [row.name for row in self.before.mutants] if self.before else []
        return [name for name in dict.fromkeys([*before, *self.names]) if name in self.session.plan.mutants]

    def _mutant(self, name: str) -> Mutant:
        return self.session.plan.mutants[name]

    def _next_cell(self) -> SidePlayer | None:
        """The first that may be played now: the cells of a mutant one after the other, stock before them."""
        for name in self.names:
            if self._mutant(name).changes(self.stack) and (player := self._next_of(name)) is not None:
                return player
        return None

    def _next_of(self, name: str) -> SidePlayer | None:
        for scenario in self._order(name):
            stock = self._cells.get((STOCK, scenario.id))
            if stock is None or (stock.verdict.unsettled and self._stock_tries[scenario.id] == 1):
                return self._player(STOCK, scenario)
            if stock.verdict.unsettled:
                continue  # nothing that the mutant does there could be held against anything
            known = self._cells.get((name, scenario.id))
            if known is None:
                return self._player(name, scenario, enough=_killed(stock))
            if known.fate.seen and not self.every:
                return None
        return None

    def _order(self, name: str) -> list[Scenario]:
        """Those that promise to see it first."""
        return sorted(self.scenarios, key=lambda scenario: scenario.ending not in self._mutant(name).notices)

    def _player(self, name: str, scenario: Scenario, enough: StopCondition | None = None) -> SidePlayer | None:
        """What plays this cell; None while it is played already, and the mutant waits for it."""
        if (name, scenario.id) in self._under_way:
            return None
        self._under_way.add((name, scenario.id))
        self._set_aside(name, scenario)
        progress = self.progress.side(f"{scenario.id} {name}")
        return SidePlayer(self.session.lab, self.session.plan, scenario, name, progress, enough)

    def _add(self, outcome: SideOutcome) -> None:
        name, scenario = outcome.name, outcome.scenario
        self.session.take(outcome)
        self._under_way.remove((name, scenario.id))
        self._stock_tries[scenario.id] += name == STOCK
        stock = None if name == STOCK else self._cells[STOCK, scenario.id]
        issues = () if stock else self.session.forecast(scenario).explains(outcome.side.judgement.checks)
        made = cell(scenario.id, scenario.ending, outcome.side, outcome.seconds, stock, issues)
        self._cells[name, scenario.id] = made
        self._played += 1
        self._write()
        told = made.verdict if name == STOCK else made.fate
        self.progress.note(f"{name} x {scenario.id}: {told}: {made.reason} ({self._estimate()})")

    def _set_aside(self, name: str, scenario: Scenario) -> None:
        """What a cell left behind that was interrupted or is played again stays, under another name: it is evidence."""
        for folder in (self.session.plan.results / "raw" / scenario.id).glob(f"{name}*"):
            if re.fullmatch(rf"{re.escape(name)}(-retry\d+)?", folder.name):
                places = (folder.with_name(f"{folder.name}.before-{number}") for number in itertools.count(1))
                folder.rename(next(place for place in places if not place.exists()))

    def _estimate(self) -> str:
        """Longest it can still take at the pace so far: every mutant that is left survives to its last scenario."""
        settled = set() if self.every else {row.name for row in self._rows() if row.fate.seen}
        names = {STOCK, *(name for name in self.names if self._mutant(name).changes(self.stack))} - settled
        left = sum((name, scenario.id) not in self._cells for name in names for scenario in self.scenarios)
        pace = (time.monotonic() - self._begun) / self._played
        return f"{len(self._cells)} played, at most {left * pace / 60:.0f} min left"

    def _write(self) -> KillMatrix:
        plan = self.session.plan
        matrix = KillMatrix(
            tool_version=importlib.metadata.version("maskall"),
            run_id=self.session.run_id,
            started=self.session.started,
            ended=datetime.now(UTC),
            host=self.session.host,
            scenarios=self._columns,
            stock=self._cells_of(STOCK),
            mutants=tuple(self._rows()),
        )
        store_matrix(matrix, plan.results)
        return matrix

    def _rows(self) -> Iterable[Row]:
        for name in self._all_names:
            mutant = self._mutant(name)
            yield Row(
                name=name,
                layer=mutant.layer,
                stands_for=mutant.stands_for,
                notices=mutant.notices,
                equivalent=mutant.equivalent,
                fits=bool(mutant.changes(self.stack)),
                planted=self._planted(name),
                cells=self._cells_of(name),
            )

    def _planted(self, name: str) -> Control | None:
        earlier = {row.name: row.planted for row in self.before.mutants} if self.before else {}
        return self.session.controls.get(name, earlier.get(name))

    def _cells_of(self, name: str) -> tuple[MatrixCell, ...]:
        found = (self._cells.get((name, scenario)) for scenario in self._columns)
        return tuple(one for one in found if one is not None)


def _killed(stock: MatrixCell) -> StopCondition:
    """Whether something failed that does not fail on stock: nothing that comes later can undo it."""
    return lambda record: bool(signatures(judge(record).checks) - set(stock.violations))

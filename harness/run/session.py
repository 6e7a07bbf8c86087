"""A run: every scenario on the stock hypervisor and, where it promises to see the defect, on the known-bad control."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import IO

from harness.base.errors import UsageError
from harness.base.progress import Progress
from harness.evidence.sealed import bytes_of
from harness.evidence.store import digest
from harness.host.host import Lab
from harness.judge.forecast import Forecast, foresee
from harness.judge.judge import judge
from harness.judge.judgement import Verdict
from harness.mutants.catalogue import changes_on
from harness.nested.cache import Cache
from harness.report.begun import KNOWN_ISSUES, NAME, Begun
from harness.report.formats.base import written
from harness.report.results import (
    Attempt,
    CaseResult,
    Control,
    HostSummary,
    Parent,
    RunResult,
    ScenarioResult,
    Side,
)
from harness.report.sidelog import side_log
from harness.report.told import Told
from harness.run import resume, store
from harness.run.again import RunAgain
from harness.run.chain import Chain
from harness.run.options import CONTROL_XEN
from harness.run.plan import Plan
from harness.run.proofs import Proofs
from harness.run.schedule import Schedule
from harness.run.side import SideOutcome, SidePlayer, command_to_repeat, concluded, wall
from harness.scenario.record import Record
from harness.scenario.spec import ControlRole, Scenario
from harness.xen.keys.fixes import registry


@dataclass
class Session:
    """One run over one lab, in one thread. `run` may be called for any of the plan's scenarios, `finish` once."""

    lab: Lab
    plan: Plan
    progress: Progress
    cache: Cache | None = None
    """Where proofs are kept from run to run; None: nowhere."""
    controls_lab: Lab | None = None
    """Where hosts with the hypervisor of --control-xen come from."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished: list[ScenarioResult] = field(default_factory=list)
    controls: dict[str, Control] = field(default_factory=dict)  # the mutants that were planted, by name
    _outcomes: dict[tuple[str, str], SideOutcome] = field(default_factory=dict)  # by scenario and hypervisor
    _again: RunAgain | None = None  # what had ended before this run was gone on with
    _spoiled: dict[tuple[str, str], list[Attempt]] = field(default_factory=dict)  # tries of sides that had not ended
    _rows_begun: set[str] = field(default_factory=set)
    _held: IO[bytes] | None = None
    _chain: Chain | None = None
    _begun: float = field(default_factory=time.monotonic)
    _broken_off: Event = field(default_factory=Event)

    @property
    def run_id(self) -> str:
        return self.plan.results.name

    @property
    def begun(self) -> bool:
        """Whether run.json says what is to be done."""
        return self._held is not None

    @cached_property
    def _facts(self) -> dict[str, str]:
        return {**self.lab.facts(), "toolstack": str(self.plan.options.toolstack_name())}

    def forecast(self, scenario: Scenario) -> Forecast:
        """What the hypervisor under test is expected to come to, judged by the host's facts as if it were stock."""
        return foresee(scenario, self._facts, registry(), self.plan.issues)

    @cached_property
    def _schedule(self) -> Schedule[SideOutcome]:
        return Schedule(self._next_side, self.plan.options.hosts_at_a_time, self._abort)

    def _abort(self) -> None:
        self._broken_off.set()
        self.lab.abort()
        if self.controls_lab is not None:
            self.controls_lab.abort()

    @cached_property
    def _sides_left(self) -> list[tuple[Scenario, str]]:
        """Sides that have not begun, both of a scenario side by side."""
        every = [(scenario, name) for scenario in self.plan.scenarios for name in self.hypervisors(scenario)]
        return [(scenario, name) for scenario, name in every if (scenario.id, name) not in self._outcomes]

    def hypervisors(self, scenario: Scenario) -> list[str]:
        """As the plan says, but no control of its own for a scenario that must fail here, or that it does not fit."""
        names = self.plan.hypervisors(scenario)
        if not self.plan.is_own(scenario):
            return names
        fits = changes_on(self.plan.mutants[names[1]], self._facts)
        return names if fits and not self.forecast(scenario).certain else names[:1]

    def _next_side(self) -> Callable[[], SideOutcome] | None:
        if not self._sides_left:
            return None
        if self._held is None:
            self.begin()
        scenario, name = self._sides_left.pop(0)
        label = name if name == self.plan.tested else "control"
        left_out = self.plan.options.left_out if self._is_late(scenario) else ""
        progress = self.progress.side(f"{scenario.id} {label}")
        lab = self.controls_lab if name == CONTROL_XEN and self.controls_lab else self.lab
        own = name != self.plan.tested and self.plan.is_own(scenario)
        enough = _failed if own else None
        before = self._spoiled.get((scenario.id, name), ())
        player = SidePlayer(
            lab,
            self.plan,
            scenario,
            name,
            progress,
            enough,
            own,
            broken_off=self._broken_off,
            before=before,
            left_out=left_out,
        )
        return player if left_out or name in (self.plan.tested, CONTROL_XEN) else partial(self._control, player)

    def _is_late(self, scenario: Scenario) -> bool:
        """Whether no side of it had begun when the time of --for was over: a row is played whole or not at all."""
        over = self.plan.options.last_begin
        if over is None or scenario.id in self._rows_begun:
            return False
        if over.expired:
            return True
        self._rows_begun.add(scenario.id)
        return False

    def _control(self, player: SidePlayer) -> SideOutcome:
        """A control, played in an earlier run or in this one."""
        if self._proofs is None:
            return player()
        named = player.scenario, player.name
        mutant, role = self.plan.mutants[player.name], self.plan.role(player.scenario)
        if not self.plan.options.fresh_controls and (kept := self._proofs.used(*named, mutant, role)):
            return kept
        outcome = player()
        if not self._broken_off.is_set():
            self._proofs.keep(outcome, mutant, role)
        return outcome

    @cached_property
    def _proofs(self) -> Proofs | None:
        """None where each side must be played: its host is wanted, or it is traced, or no line may go unexplained."""
        options = self.plan.options
        if self.cache is None or options.keep or options.trace or options.strict_messages or options.in_lab:
            return None
        if options.challenge:  # which the guests of an earlier run do not answer
            return None
        return Proofs(self.cache, self.plan.results, self._facts, self.lab.packages(), self.started)

    def go_on(self) -> None:
        """Take what had ended of the run in this directory. UsageError when it cannot be gone on with."""
        root = self.plan.results
        self._held = store.held(root)
        again = self._again = resume.gone_on(root, self.host)
        resume.set_aside(root, again)
        self.started = again.begun.started
        self._chain = Chain(root)
        self._chain.add("gone on", NAME, digest((root / NAME).read_bytes()))
        for one in again.sides:
            self._chained(one.side, [*one.spoiled] if not one.finished else one.side.attempts, ended=one.finished)
        rows = {row.id: row for row in self.plan.scenarios}
        for one in again.sides:
            row, name = rows[one.record.scenario.id], one.side.hypervisor
            if not one.finished:
                self._spoiled[row.id, name] = one.spoiled
                continue
            took = (one.ended - one.began).total_seconds()
            planted, began = one.tries[-1].planted, self._begun - took
            self._outcomes[row.id, name] = SideOutcome(row, name, one.side, planted, began, self._begun, 0)
            self._rows_begun.add(row.id)
            if planted is not None:
                self.controls[name] = planted
        self.finished += again.finished.values()

    def begin(self) -> None:
        """Write run.json: what is about to be done."""
        self._write_begun()
        self._held = store.held(self.plan.results)
        self._chain = Chain(self.plan.results)
        self._chain.add("begun", NAME, digest((self.plan.results / NAME).read_bytes()))

    def _write_begun(self) -> None:
        plan, control = self.plan, self.plan.options.control
        begun = Begun(
            tool_version=importlib.metadata.version("maskall"),
            run_id=self.run_id,
            started=self.started,
            host=self.host,
            scenarios=tuple(row.id for row in plan.scenarios),
            under_test=plan.tested,
            control=control,
            notices=plan.notices,
            own_controls={
                row.id: name for row in plan.scenarios if plan.is_own(row) for name in self.hypervisors(row)[1:]
            },
            known_issues=self._copy_of_issues(),
            repeat_options=plan.options.repeat_options,
            challenge=plan.options.challenge,
            parent=self.parent,
        )
        store.write_atomically(plan.results / NAME, begun.model_dump_json(indent=1).encode() + b"\n")

    @cached_property
    def parent(self) -> Parent | None:
        """The run of which this one plays again what was not as expected."""
        if self._again is not None:
            return self._again.begun.parent
        failed = self.plan.options.failed
        return resume.parent(failed, (row.id for row in self.plan.scenarios)) if failed else None

    def _copy_of_issues(self) -> str | None:
        """The SHA-256 of the copy."""
        own = self.plan.options.known_issues
        if own is None:
            return None
        try:
            content = own.read_bytes()
        except OSError as error:
            raise UsageError(f"{own} cannot be read: {error.strerror}") from error
        store.write_atomically(self.plan.results / KNOWN_ISSUES, content)
        return digest(content)

    def run(self, scenario: Scenario) -> ScenarioResult:
        """The result of one of the plan's scenarios, once all its sides have ended; where there are places others are
        played meanwhile.
        """
        self._sides_left.sort(key=lambda side: side[0].id != scenario.id)
        try:
            while not self._complete(scenario):
                outcome = next(self._schedule)
                self.take(outcome)
                if self._complete(outcome.scenario):
                    self.finished.append(self.conclude(outcome.scenario))
        except BaseException:  # a full disk, Ctrl-C while something is stored
            self.stop()
            raise
        return next(result for result in self.finished if result.id == scenario.id)

    def _complete(self, scenario: Scenario) -> bool:
        return all((scenario.id, name) in self._outcomes for name in self.hypervisors(scenario))

    def take(self, outcome: SideOutcome) -> None:
        """A side has ended: what is told about it is stored at once, whatever becomes of the others."""
        store.write_atomically(self.plan.results / outcome.side.log, side_log(outcome.side).encode())
        self._chained(outcome.side, outcome.side.attempts)
        self._outcomes[outcome.scenario.id, outcome.name] = outcome
        if outcome.planted is not None:
            self.controls[outcome.name] = outcome.planted

    def _chained(self, side: Side, spoiled: Iterable[Attempt], *, ended: bool = True) -> None:
        """An event for each of its tries that has none yet."""
        if self._chain is None:  # somebody else's book, as a campaign's
            return
        tries = [("spoiled", one.raw) for one in spoiled]
        tries += [("ended", side.stored)] if ended else []
        told = {one.file for one in self._chain.events}
        for what, raw in tries:
            if raw is not None and raw.path not in told:
                self._chain.add(what, raw.path, raw.sha256)

    def conclude(self, scenario: Scenario) -> ScenarioResult:
        """What the scenario's sides say together, all of which were taken."""
        sides = [self._outcomes[scenario.id, name] for name in self.hypervisors(scenario)]
        return concluded(
            scenario,
            [one.side for one in sides],
            self.forecast(scenario),
            self.plan.role(scenario) if len(sides) > 1 else ControlRole.NONE,
            max(one.ended for one in sides) - min(one.began for one in sides),
            command_to_repeat(scenario.id, [row.id for row in self.plan.scenarios], self.plan.options.repeat_options),
        )

    @property
    def host(self) -> HostSummary:
        """What results say about the host they come from."""
        return HostSummary.of(self._facts, self.lab.packages())

    def stop(self) -> None:
        """Begin nothing more, and end what is under way; it is no result."""
        self._schedule.stop()

    def finish(self, cases: Sequence[CaseResult] = (), controls: Iterable[Control] = ()) -> RunResult:
        """Write results.json, and what tells it again: junit.xml and report.html.

        `cases`, and their `controls`, are what else was played meanwhile.
        """
        took = time.monotonic() - self._begun
        order = [row.id for row in self.plan.scenarios]
        result = RunResult.of(
            sorted(self.finished, key=lambda result: order.index(result.id)),
            tool_version=importlib.metadata.version("maskall"),
            run_id=self.run_id,
            started=self.started,
            ended=datetime.now(UTC),
            host=self.host,
            cases=cases,
            controls=({one.name: one for one in controls} | self.controls).values(),
            overhead_seconds=max(0.0, took - wall(one for one in self._outcomes.values() if one.ended > self._begun)),
            parent=self.parent,
        )
        store_run(result, self.plan.results)
        if self._chain is not None:
            self._chain.add("finished", store.RESULTS, digest((self.plan.results / store.RESULTS).read_bytes()))
        if self._held is not None:
            self._held.close()
        return result


def _failed(record: Record) -> bool:
    """Whether an expectation is violated already: then the mutant is noticed, and nothing later can undo it."""
    return judge(record).verdict is Verdict.FAIL


def store_run(result: RunResult, folder: Path) -> None:
    """Write results.json, and what tells it again, into the directory of the run."""
    for name, content in written(Told(result, read=partial(bytes_of, folder))):
        store.write_atomically(folder / name, content)

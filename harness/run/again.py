"""A stored run judged anew from its raw files: no host is asked, nothing outside of the run's directory is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from harness.base.errors import EmulatorFault, EvidenceError, ExitStatus, InventoryError, UsageError
from harness.evidence.observe import emulator_fault, observed
from harness.evidence.sealed import Sealed, read_inside
from harness.evidence.store import digest
from harness.judge.forecast import foresee
from harness.judge.judge import judge
from harness.judge.judgement import Outcome, sentence
from harness.judge.known import KnownIssue, known_issues
from harness.model.observation import RawRef
from harness.report.begun import KNOWN_ISSUES, NAME, VERSION, Begun
from harness.report.results import Attempt, CaseResult, CaseSide, Control, RunResult, ScenarioResult, Side
from harness.run import sidefile
from harness.run.caseagain import case_again
from harness.run.side import MAX_EMULATOR_RETRIES, RETRIED, attempt, command_to_repeat, concluded, side_of
from harness.run.sidefile import SideFile, load_side
from harness.scenario.record import Record
from harness.scenario.repeats import row_of
from harness.xen.keys.fixes import registry


@dataclass(frozen=True)
class SideAgain:
    """One side, made anew. `tries`: what is stored of it, the last being the one that counts."""

    tries: tuple[SideFile, ...]
    records: tuple[Record, ...]  # of each try, as its raw files show it
    raws: tuple[RawRef, ...]  # where each stands
    side: Side
    files: int
    hidden: tuple[str, ...] = ()  # what tries that were thrown away show, and no fault of the emulator excuses

    @property
    def record(self) -> Record:
        """Of the try that counts."""
        return self.records[-1]

    @property
    def finished(self) -> bool:
        """Not to be tried once more."""
        broken = self.tries[-1].record.broken
        again = broken is not None and broken.kind in RETRIED
        return not again or len(self.tries) > MAX_EMULATOR_RETRIES

    @property
    def spoiled(self) -> list[Attempt]:
        """Every try, of a side that is to be tried once more."""
        last = self.tries[-1]
        assert self.side.stored is not None  # noqa: S101 - a side that was read from disk
        return [*self.side.attempts, _attempt(last, self.record, self.side.stored)]

    @property
    def began(self) -> datetime:
        return self.tries[0].began

    @property
    def ended(self) -> datetime:
        return self.tries[-1].ended


@dataclass
class RunAgain:
    """All that can be made of a run's directory. `finished`: its scenarios with all sides, by id, as judged anew.

    `parts`: sides that ended of those that did not; `unreadable`: what is wrong with the files of the rest.
    """

    root: Path
    begun: Begun
    finished: dict[str, ScenarioResult] = field(default_factory=dict)
    parts: dict[str, tuple[Side, ...]] = field(default_factory=dict)
    unreadable: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sides: list[SideAgain] = field(default_factory=list)
    cases: dict[str, CaseResult] = field(default_factory=dict)
    planted_for_cases: tuple[Control, ...] = ()

    @cached_property
    def controls(self) -> tuple[Control, ...]:
        """The mutants that were planted."""
        found = {one.planted.name: one.planted for side in self.sides for one in side.tries if one.planted}
        return tuple(({one.name: one for one in self.planted_for_cases} | found).values())

    @property
    def case_sides(self) -> list[CaseSide]:
        return [side for case in self.cases.values() for _, side in case.sides]

    @property
    def sides_read(self) -> int:
        """How many sides were made anew."""
        return len(self.sides) + len(self.case_sides)

    @property
    def raw_files(self) -> int:
        """From how many files."""
        return sum(one.files for one in self.sides) + sum(len(one.files) for one in self.case_sides)

    def result(self, status: ExitStatus | None = None) -> RunResult:
        """What results.json says, or would have said; with the exit status of a run that did not come to its end."""
        sides = [side for side in self.sides if side.side.kept is None]
        busy = sum((side.ended - side.began).total_seconds() for side in sides)
        covered = sum(sum(side.tries[-1].phases.values()) for side in sides)
        ended = max((side.ended for side in sides), default=self.begun.started)
        return RunResult.of(
            list(self.finished.values()),
            tool_version=self.begun.tool_version,
            run_id=self.begun.run_id,
            started=self.begun.started,
            ended=ended,
            host=self.begun.host,
            controls=self.controls,
            overhead_seconds=max(0.0, busy - covered),
            parent=self.begun.parent,
            cases=list(self.cases.values()),
            status=status,
        )


def begun_in(root: Path) -> Begun:
    """What the run in this directory was about to do. EvidenceError when it does not say so."""
    try:
        return Begun.model_validate_json(read_inside(root, NAME))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        hint = f"this maskall reads {NAME} of version {VERSION}"
        raise EvidenceError(f"{NAME!r}: {place}: {first['msg']}", hint=hint) from error


def judged_again(root: Path, only: str = "*", stored: RunResult | None = None, *, own_issues: bool = True) -> RunAgain:
    """The run in `root`: all of its scenarios (each time of a row), and of the tests in its `stored` results,
    that the glob `only` names.

    With `stored` results the records must be those that these name. Without `own_issues` a known_issues.yaml that the
    run brings along counts for nothing. EvidenceError when run.json cannot be read,
    UsageError when there is no such scenario; what else is wrong stands in the answer.
    """
    begun = begun_in(root)
    named = [one for one in begun.scenarios if fnmatchcase(one, only) or fnmatchcase(row_of(one), only)]
    cases = [one for one in stored.cases if fnmatchcase(one.id, only)] if stored else []
    if not named and not cases and only != "*":
        known = [*begun.scenarios, *(one.id for one in stored.cases)] if stored else begun.scenarios
        raise UsageError(f"the run has no scenario {only!r}", hint=f"it has {', '.join(known)}")
    again = RunAgain(root, begun)
    issues = _issues(root, begun) if own_issues else known_issues()
    results = {one.id: one for one in stored.scenarios} if stored else {}
    for name in named:
        try:
            _add(again, name, results.get(name), issues)
        except EvidenceError as error:
            again.unreadable[name] = tuple(str(error).split("\n"))
    if stored is not None and cases:
        again.planted_for_cases = _planted_for(cases, stored)
    for case in cases:
        try:
            again.cases[case.id] = case_again(root, case)
        except EvidenceError as error:
            again.unreadable[case.id] = tuple(str(error).split("\n"))
    return again


def _planted_for(cases: Iterable[CaseResult], stored: RunResult) -> tuple[Control, ...]:
    """The mutants of tests, for which the results' word is taken."""
    played = {side.hypervisor for case in cases for _, side in case.sides}
    return tuple(one for one in stored.controls if one.name in played)


def _issues(root: Path, begun: Begun) -> Mapping[str, KnownIssue]:
    """Ours of today, and the user's of then on top."""
    if begun.known_issues is None:
        return known_issues()
    if digest(read_inside(root, KNOWN_ISSUES)) != begun.known_issues:
        raise EvidenceError(f"{KNOWN_ISSUES!r} was changed after it was stored: its SHA-256 is another one")
    try:
        return known_issues(root / KNOWN_ISSUES)
    except InventoryError as error:
        raise EvidenceError(error.message.removeprefix(f"{root}/"), hint=error.hint) from error


def _add(again: RunAgain, name: str, stored: ScenarioResult | None, issues: Mapping[str, KnownIssue]) -> None:
    begun, root = again.begun, again.root
    wanted = {side.hypervisor: side for _, side in stored.sides} if stored else {}
    sides: dict[str, SideAgain] = {}
    for hypervisor in filter(None, (begun.under_test, begun.control_of(name))):
        tries = _tries(root, name, hypervisor)
        if tries or hypervisor in wanted:
            sides[hypervisor] = _side(root, name, hypervisor, tries or 1, wanted.get(hypervisor), begun.started)
    again.sides += sides.values()
    ended = {hypervisor: one for hypervisor, one in sides.items() if one.finished}
    scenario = next((one.record.scenario for one in sides.values()), None)
    if scenario is None or not all(one in ended for one in begun.hypervisors(scenario)):
        again.parts[name] = tuple(one.side for one in ended.values())
        return
    made = [ended[hypervisor] for hypervisor in begun.hypervisors(scenario)]
    again.finished[name] = concluded(
        scenario,
        [one.side for one in made],
        foresee(scenario, begun.host.facts, registry(), issues),
        begun.role(scenario),
        _seconds([one for one in made if one.side.kept is None]),
        command_to_repeat(scenario.id, begun.scenarios, begun.repeat_options),
    )


def _seconds(sides: Sequence[SideAgain]) -> float:
    """From the first that began to the last that ended."""
    ended = max((one.ended for one in sides), default=datetime.min)
    return (ended - min((one.began for one in sides), default=ended)).total_seconds()


def side_again(root: Path, name: str, hypervisor: str, started: datetime) -> SideAgain:
    """The only try of one side of the run in `root` that was `started` then. EvidenceError as `judged_again`."""
    return _side(root, name, hypervisor, 1, None, started)


def _folder(name: str, hypervisor: str, number: int) -> str:
    return f"raw/{name}/{hypervisor}" + (f"-retry{number}" if number else "")


def _tries(root: Path, name: str, hypervisor: str) -> int:
    """How many tries of a side have a record."""
    folders = (root / _folder(name, hypervisor, number) / sidefile.NAME for number in range(MAX_EMULATOR_RETRIES + 1))
    return sum(os.path.lexists(one) for one in folders)


def _side(root: Path, name: str, hypervisor: str, tries: int, stored: Side | None, started: datetime) -> SideAgain:
    """EvidenceError, one line for each, when files are missing or were changed.

    One that ended before the run was `started` is a kept proof.
    """
    files: list[SideFile] = []
    records: list[Record] = []
    hidden: list[str] = []
    raws: list[RawRef] = []
    damaged: list[str] = []
    seals = [*(one.raw for one in stored.attempts), stored.stored] if stored else []
    for number in range(tries):
        seal = seals[number] if number < len(seals) else None
        file, sealed, raw = load_side(root, _folder(name, hypervisor, number), seal.sha256 if seal else None)
        if (file.record.scenario.id, file.hypervisor) != (name, hypervisor):
            raise EvidenceError(f"{raw.path!r} is of {file.record.scenario.id} on {file.hypervisor}")
        files.append(file)
        raws.append(raw)
        if wrong := sealed.damaged():
            damaged += wrong
        else:
            records.append(observed(file.record, sealed))
            if number < tries - 1 and (why := _hidden(records[-1], sealed)):
                hidden.append(f"{sealed.folder} was thrown away, and {why}")
    if damaged:
        raise EvidenceError("\n".join(damaged))
    *spoiled, record = records
    try:
        side = side_of(
            record,
            judge(record),
            hypervisor=hypervisor,
            folder=sealed.folder,
            phases=file.phases,
            attempts=[_attempt(*one) for one in zip(files, spoiled, raws, strict=False)],
            stored=raw,
            began=files[-1].began,
            kept=file.began if file.ended < started else None,
        )
    except ValidationError as error:  # a number that no address or time can be
        raise EvidenceError(f"{raw.path!r}: {error.errors(include_url=False)[0]['msg']}") from error
    return SideAgain(
        tuple(files), tuple(records), tuple(raws), side, sum(len(one.files) for one in files), tuple(hidden)
    )


def _hidden(record: Record, files: Sealed) -> str:
    """Why this try may not have been thrown away; empty: it may."""
    broken = record.broken
    if broken is None or broken.kind not in RETRIED:
        return "nothing broke it off"
    if broken.kind == EmulatorFault.__name__:
        shown = record.silence is not None and emulator_fault(files.name_of(record.silence), files)
        return "" if shown else "no raw file shows a fault of the emulator"
    checks = judge(replace(record, broken=None)).checks
    violated = next((one for one in checks if one.outcome is Outcome.VIOLATED and one.raw is not None), None)
    return f"it shows: {sentence(violated)}" if violated else ""


def _attempt(file: SideFile, record: Record, raw: RawRef) -> Attempt:
    return attempt(record.broken.message if record.broken else "", (file.ended - file.began).total_seconds(), raw)


def testimony(again: RunAgain) -> dict[str, int]:
    """What no raw byte shows and is taken from the records: how often, by kind."""
    found = {"actions": 0, "domids": 0, "call chains": 0, "events of traces": 0, "skipped or broken off": 0}
    played = again.case_sides
    found["verdicts of tests"] = len(played)
    found["actions"] += sum(len(side.record.actions) for side in played)
    for one in again.sides:
        record = one.record
        found["actions"] += len(record.actions)
        found["domids"] += len(record.guests)
        found["call chains"] += bool(record.call_chain)
        found["events of traces"] += len(record.trace)
        found["skipped or broken off"] += bool(record.skipped) + (record.broken is not None)
    return {what: number for what, number in found.items() if number}

"""A stored run judged anew and held against its results.json: SAME, or what differs."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.base.errors import EvidenceError, UsageError
from harness.base.stored import from_json
from harness.base.text import inert
from harness.evidence.sealed import read_inside
from harness.play.catalogue import catalogue
from harness.report.differences import Difference, of_case, of_scenario, of_values
from harness.report.results import CaseResult, RunResult, ScenarioResult
from harness.run.again import RunAgain, judged_again, testimony
from harness.run.store import RESULTS
from harness.scenario.spec import Ending, FollowOn, Scenario

_WORDS = ("SAME", "DIFFERS", "STRICTER", "LAXER", "UNREADABLE")


@dataclass(frozen=True)
class Compared:
    """One scenario, or the run as a whole: judged anew and held against what is stored."""

    name: str
    differences: Sequence[Difference] = ()
    unreadable: Sequence[str] = ()
    now: ScenarioResult | CaseResult | None = None
    was: ScenarioResult | CaseResult | None = None

    @property
    def word(self) -> str:
        """STRICTER: a side fails by now that did not; LAXER: the other way round; DIFFERS is anything else."""
        if self.unreadable or not self.differences:
            return "UNREADABLE" if self.unreadable else "SAME"
        before, after = (_failing(one) for one in (self.was, self.now))
        return "STRICTER" if before < after else "LAXER" if after < before else "DIFFERS"

    @property
    def lines(self) -> Iterator[str]:
        came = f": {_came_to(self.now)}" if self.now else ""
        yield inert(f"{self.word:10} {self.name}{came}")
        yield from (f"             {line}" for line in (*self.unreadable, *self.differences))


@dataclass(frozen=True)
class Comparison:
    parts: Sequence[Compared]
    again: RunAgain
    tool: str  # that the run was made by
    words: dict[str, int] = field(default_factory=dict)

    @property
    def status(self) -> int:
        words = {one.word for one in self.parts}
        return 2 if "UNREADABLE" in words else 1 if words - {"SAME"} else 0

    @property
    def redefined(self) -> list[str]:
        """Scenarios that the catalogue defines otherwise than when they were played."""
        played = {one.record.scenario.id: one.record.scenario for one in self.again.sides}
        return [name for name, row in played.items() if _definition(row.end, row.follow) != _today(row)]

    @property
    def lines(self) -> Iterator[str]:
        for one in self.parts:
            yield from one.lines
        found = Counter(one.word for one in self.parts)
        told = [f"{found[word]} {word}" for word in _WORDS if found[word] or word not in ("STRICTER", "LAXER")]
        files = self.again.raw_files
        yield f"{', '.join(told)}; {self.again.sides_read} sides and {files} raw files, each by its SHA-256"
        ours = importlib.metadata.version("maskall")
        if self.tool != ours:
            yield f"made by maskall {self.tool}, judged by maskall {ours}"
        if redefined := self.redefined:
            which = ", ".join(redefined)
            yield f"judged by the definition they were played by, which is not that of the catalogue today: {which}"
        said = ", ".join(f"{number} {what}" for what, number in self.words.items())
        yield f"testimony of the harness, which no raw byte shows: {said or 'none'}"

    @property
    def as_json(self) -> dict[str, object]:
        return {
            "exit_status": self.status,
            "judged": [
                {
                    "name": one.name,
                    "answer": one.word,
                    "conclusion": one.now.conclusion if one.now else None,
                    "differences": [each.as_json for each in one.differences],
                    "unreadable": list(one.unreadable),
                }
                for one in self.parts
            ],
            "sides": self.again.sides_read,
            "raw_files": self.again.raw_files,
            "redefined": self.redefined,
            "testimony": self.words,
        }


_Definition = tuple[Ending | None, FollowOn | None]


def _definition(ending: Ending | None, follow_on: FollowOn | None) -> _Definition:
    """Without the number of rounds, which is an option of the run."""
    return ending, follow_on and follow_on.model_copy(update={"rounds": 0})


def _today(row: Scenario) -> _Definition:
    known = catalogue()
    return _definition(known.endings.get(row.ending), known.follow_ons.get(row.follow_on))


def run_directory(results: Path) -> Path:
    """The run's directory, for itself or for its results.json."""
    root = results.parent if results.name == RESULTS else results
    if not root.is_dir():
        told = f"{root} is no directory" if root.exists() else f"there is no directory {root}"
        hint = "give the directory of a run, as 'results: ...' said"
        raise UsageError(told, hint=f"{hint}; a bundle is judged by 'maskall verify'" if root.exists() else hint)
    return root


def compared(root: Path, only: str | None) -> Comparison:
    """The scenarios of the run in `root` that the glob `only` names; None is all, and what they add up to.

    UsageError when the run's own files cannot be read, for then there is nothing to compare.
    """
    try:
        return _compared(root, only)
    except EvidenceError as error:
        raise UsageError(error.message, hint=error.hint) from error


def _compared(root: Path, only: str | None) -> Comparison:
    try:
        content = read_inside(root, RESULTS)
    except EvidenceError as error:
        hint = f"a run that was cut short has none: see 'maskall report {root}'"
        raise UsageError(error.message, hint=hint) from error
    stored = from_json(RunResult, content, file=RESULTS)
    again = judged_again(root, only or "*", stored)
    parts = list(_scenarios(stored, again))
    if only is None and not any(one.unreadable for one in parts):  # else there is nothing that adds up
        parts.append(Compared("the run as a whole", _of_run(stored, again.result())))
    return Comparison(parts, again, stored.tool_version, testimony(again))


def _scenarios(stored: RunResult, again: RunAgain) -> Iterator[Compared]:
    for one in stored.scenarios:
        if one.id in again.unreadable:
            yield Compared(one.id, unreadable=again.unreadable[one.id])
        elif one.id in again.finished:
            now = again.finished[one.id]
            yield Compared(one.id, of_scenario(one, now), now=now, was=one)
        elif one.id in again.parts:
            yield Compared(one.id, [Difference("scenario", "sides", "all ended", "one did not end")])
        elif one.id not in again.begun.scenarios:
            yield Compared(one.id, unreadable=["run.json does not name this scenario"])
    for case in stored.cases:
        if case.id in again.unreadable:
            yield Compared(case.id, unreadable=again.unreadable[case.id])
        elif case.id in again.cases:
            made = again.cases[case.id]
            yield Compared(case.id, of_case(case, made), now=made)


def _failing(result: ScenarioResult | CaseResult | None) -> set[str]:
    """The sides on which the product is blamed."""
    return {name for name, side in result.sides if side.verdict.blames_product} if result else set()


def _of_run(stored: RunResult, now: RunResult) -> list[Difference]:
    """What the scenarios add up to, and what was tested."""
    names = {"host", "controls", "counts", "emulator_faults", "exit_status", "run_id", "parent"}
    before, after = (one.model_dump(mode="json", include=names) for one in (stored, now))
    for one in (before, after):
        one["controls"].sort(key=lambda control: control["name"])
    return of_values("run", before, after)


def _came_to(result: ScenarioResult | CaseResult) -> str:
    if isinstance(result, CaseResult):
        sides = "; ".join(f"{name} {side.verdict}, {len(side.record.seen)} checkpoints" for name, side in result.sides)
        return f"{sides}; {result.conclusion}"
    sides = "; ".join(f"{name} {side.verdict}, {len(side.judgement.checks)} checks" for name, side in result.sides)
    return f"{sides}; {result.conclusion}"

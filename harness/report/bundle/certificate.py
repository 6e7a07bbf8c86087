"""The model of certificate.json, what it comes to, and the same as text. Pure.

It says of a device, with its firmware, on a stack what was shown, by which bundles, and what would make it void.
Whoever has the bundles makes it again: nothing in it is taken from anybody's word.
"""

from __future__ import annotations

import enum
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from harness.base.strict import StrictModel
from harness.base.text import inert
from harness.judge.judgement import Conclusion
from harness.report.bundle.fidelity import Kind
from harness.report.bundle.statement import Tool
from harness.scenario.repeats import row_of

VERSION: Final = "2"
NAME = "certificate.json"
PROFILE = "certify"
VOID = (
    "another firmware of the device or of the machine",
    "another version or build of Xen, QEMU or dom0's kernel",
    "other command lines of Xen or dom0",
    "a fault in the maskall that judged it, by its own list of them",
)


class Result(enum.StrEnum):
    CERTIFIED = "CERTIFIED"
    NOT_CERTIFIED = "NOT CERTIFIED"  # something is wrong with what was tested
    INCOMPLETE = "INCOMPLETE"  # something was not shown


class BundleOf(StrictModel):
    """A bundle that the certificate rests on. Of several, each after the first supplements the one before it."""

    file: str
    sha256: str
    run_id: str
    challenge: str | None


class Question(StrictModel):
    """One question to dom0, before and after the run."""

    name: str
    good: bool
    seen: str


class RowShown(StrictModel):
    """A row of the profile: what it came to, all times that it was played taken together."""

    conclusion: Conclusion = Field(description="the worst that it came to")
    good: int = Field(ge=0, description="times that it was PROVEN, or KNOWN")
    times: int = Field(ge=1, description="that it was planned and played")
    earlier: tuple[str, ...] = Field(default=(), description="what it had come to in runs that were supplemented")

    @property
    def told(self) -> str:
        return f"{self.good} of {self.times}"


@dataclass(frozen=True)
class RunShown:
    """One run: what each scenario came to, and why."""

    run_id: str
    scenarios: tuple[tuple[str, Conclusion, str], ...]

    @property
    def rows(self) -> dict[str, RowShown]:
        found: dict[str, list[Conclusion]] = {}
        for name, conclusion, _ in self.scenarios:
            found.setdefault(row_of(name), []).append(conclusion)
        return {
            name: RowShown(
                conclusion=min(each, key=_WORST.index), good=sum(map(_SHOWN.__contains__, each)), times=len(each)
            )
            for name, each in found.items()
        }


_SHOWN = (Conclusion.PROVEN, Conclusion.KNOWN)
_WORST = (
    Conclusion.REGRESSION,
    Conclusion.BLIND,
    Conclusion.CHANGED,
    Conclusion.UNDECIDED,
    Conclusion.SKIPPED,
    Conclusion.UNPROVEN,
    Conclusion.KNOWN,
    Conclusion.PROVEN,
)


def _rows(runs: Sequence[RunShown]) -> dict[str, RowShown]:
    """What is played again counts in place of what it was, which stays told."""
    rows: dict[str, RowShown] = {}
    before: dict[str, str] = {}
    for run in runs:
        for name, row in run.rows.items():
            was = rows.get(name)
            told = () if was is None else (*was.earlier, f"{was.conclusion}, {was.told}, in run {before[name]}")
            rows[name] = row.model_copy(update={"earlier": told})
            before[name] = run.run_id
    return rows


def _last(runs: Sequence[RunShown]) -> dict[str, tuple[Conclusion, str]]:
    """Every time that counts: what it came to, and why."""
    found: dict[str, tuple[Conclusion, str]] = {}
    for run in runs:
        again = run.rows
        found = {name: told for name, told in found.items() if row_of(name) not in again}
        found |= {name: (conclusion, why) for name, conclusion, why in run.scenarios}
    return found


class Certificate(StrictModel):
    """Build it with `of`, which decides."""

    schema_version: Literal["2"] = VERSION
    result: Result
    because: tuple[str, ...] = Field(description="what keeps it from being CERTIFIED; empty if nothing does")
    known: tuple[str, ...] = Field(description="scenarios that failed as a known issue of the stack says")
    device: str
    device_ids: tuple[str, ...] = Field(description="vendor, device, revision and subsystem, as config space has them")
    firmware: tuple[str, ...] = Field(description="of the machine and of its devices, as dom0 tells it")
    machine: str
    fidelity: Kind
    stack: dict[str, str] = Field(description="facts of the host: Xen, build-id, kernel, command line and so on")
    packages: dict[str, str]
    profile: str
    rows: dict[str, RowShown]
    environment: tuple[Question, ...]
    played_from: AwareDatetime
    played_to: AwareDatetime
    bundles: tuple[BundleOf, ...]
    judged_by: Tool
    void_by: tuple[str, ...] = VOID

    @classmethod
    def of(
        cls,
        *,
        runs: Sequence[RunShown],
        doubts: Sequence[str],
        fidelity: Kind,
        environment: Sequence[Question],
        **more: object,
    ) -> Certificate:
        """`doubts`: layers of a bundle that do not hold. One bad time of a row is a bad row."""
        rows, last = _rows(runs), _last(runs)
        because = [_why(name, *last[name], rows) for name in last if last[name][0] is Conclusion.REGRESSION]
        wrong = bool(because)
        if fidelity != "hardware":
            what = "an emulator" if fidelity == "emulated" else "what no raw file shows"
            because.append(f"it was played on {what}: nothing is said about hardware")
        because += doubts
        shown = (*_SHOWN, Conclusion.REGRESSION)
        because += [_why(name, *last[name], rows) for name in last if last[name][0] not in shown]
        because += [f"{one.name}: {one.seen}" for one in environment if not one.good]
        result = Result.NOT_CERTIFIED if wrong else Result.INCOMPLETE if because else Result.CERTIFIED
        return cls.model_validate(
            {
                **more,
                "rows": rows,
                "fidelity": fidelity,
                "environment": tuple(environment),
                "result": result,
                "because": tuple(because),
                "known": tuple(name for name, one in rows.items() if one.conclusion is Conclusion.KNOWN),
                "profile": PROFILE,
            }
        )


def _why(name: str, conclusion: Conclusion, reason: str, rows: Mapping[str, RowShown]) -> str:
    row = rows[row_of(name)]
    return f"{name}: {conclusion}: {reason}{f'; good {row.told} times' if row.times > 1 else ''}"


def text(one: Certificate) -> str:
    """For people: 78 columns."""
    return "".join(f"{inert(line)}\n" for line in _lines(one))


def _counts(rows: Mapping[str, RowShown]) -> str:
    counts = Counter(row.conclusion for row in rows.values())
    times = sum(row.times for row in rows.values())
    told = ", ".join(f"{number} {word}" for word, number in counts.items()) or "none"
    return f"{told}; played {times} times in all" if times > len(rows) else told


def _lines(one: Certificate) -> Iterator[str]:
    but = f", but for {len(one.known)} known issues of the stack" if one.known else ""
    on = {"hardware": "on hardware", "emulated": "on an emulator", "unknown": "on an unknown machine"}[one.fidelity]
    yield f"{one.result}{but if one.result is Result.CERTIFIED else ''}: {one.device}, {on}"
    yield ""
    rows = [
        ("device", "; ".join(one.device_ids) or "not read"),
        ("machine", one.machine or "not read"),
        *(("firmware", line) for line in one.firmware),
        *((name.replace("_", " "), value) for name, value in one.stack.items()),
        ("played", f"{one.played_from:%F %H:%M} to {one.played_to:%F %H:%M %Z}"),
        ("scenarios", _counts(one.rows)),
        ("judged by", f"maskall {one.judged_by.version}, {one.judged_by.sha256[:16]}"),
        *(("bundle", f"{each.file}, run {each.run_id}, SHA-256 {each.sha256}") for each in one.bundles),
    ]
    for name, value in rows:
        yield from textwrap.wrap(f"{name:18} {value}", 78, subsequent_indent=" " * 19) or [name]
    yield from ("", "Scenarios, good k of n times that each was played:")
    for name, row in one.rows.items():
        was = f"; was {'; '.join(row.earlier)}" if row.earlier else ""
        yield from textwrap.wrap(f"{row.told:>8}  {row.conclusion:10}  {name}{was}", 78, subsequent_indent=" " * 22)
    for title, lines in (("What is missing or wrong", one.because), ("Known issues of the stack", one.known)):
        if lines:
            yield from ("", f"{title}:")
            for line in lines:
                yield from textwrap.wrap(f"- {line}", 78, subsequent_indent="  ")
    yield from ("", "dom0:")
    for question in one.environment:
        told = f"{'ok' if question.good else 'NOT OK':6} {question.name}: {question.seen}"
        yield from textwrap.wrap(told, 78, subsequent_indent=" " * 7)
    yield from ("", "Void by:")
    yield from (f"- {line}" for line in one.void_by)

"""What many runs on a stock hypervisor say together about false alarms, and the file they are kept in. Pure.

`soak.json` is written after every run, so it is also where an interrupted soak goes on.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from harness.base.errors import ExitStatus
from harness.base.strict import StrictModel
from harness.judge.judgement import Conclusion, Verdict
from harness.report.results import ScenarioResult, Seconds

SOAK_SCHEMA_VERSION: Final = "1"
_CONFIDENCE = 0.95


class SoakKind(enum.StrEnum):
    """What became of one run, as a soak counts it."""

    PASSED = "passed"
    FALSE_ALARM = "false alarm"  # a product failure on a stock hypervisor that no known issue explains
    KNOWN_ISSUE = "known issue"  # it failed just as one says
    UNDECIDED = "undecided"  # the lab, or missing evidence
    SKIPPED = "skipped"


class SoakRun(StrictModel):
    """One run of one scenario on a freshly restored host."""

    number: int = Field(ge=1)
    scenario: str
    kind: SoakKind
    verdict: Verdict
    reason: str
    hazard_taken: bool
    emulator_faults: tuple[str, ...] = Field(description="attempts that the emulator spoiled, before this verdict")
    seconds: Seconds
    results: str = Field(description="directory of this run's results.json, below the soak's")


class Soak(StrictModel):
    """All runs so far, and what they were asked to be."""

    schema_version: Literal["1"] = SOAK_SCHEMA_VERSION
    tool_version: str
    started: AwareDatetime
    stack: str
    profile: str
    devices: tuple[str, ...]
    scenarios: tuple[str, ...] = Field(min_length=1)
    wanted: int = Field(ge=1, description="runs")
    facts: dict[str, str]
    runs: tuple[SoakRun, ...] = ()

    def with_run(self, run: SoakRun) -> Soak:
        """The same with one more run, in the order of their numbers."""
        runs = sorted((*self.runs, run), key=lambda one: one.number)
        return self.model_copy(update={"runs": tuple(runs)})

    @property
    def open(self) -> tuple[int, ...]:
        """Numbers of the runs that are still to be done."""
        done = {run.number for run in self.runs}
        return tuple(number for number in range(1, self.wanted + 1) if number not in done)

    def scenario_of(self, number: int) -> str:
        """Scenarios take turns."""
        return self.scenarios[(number - 1) % len(self.scenarios)]

    @property
    def counts(self) -> Counter[SoakKind]:
        return Counter(run.kind for run in self.runs)

    @property
    def emulator_faults(self) -> int:
        return sum(len(run.emulator_faults) for run in self.runs)

    @property
    def exit_status(self) -> ExitStatus:
        counts = self.counts
        if counts[SoakKind.FALSE_ALARM]:
            return ExitStatus.FAILED
        if counts[SoakKind.UNDECIDED]:
            return ExitStatus.UNDECIDED
        return ExitStatus.OK if counts[SoakKind.PASSED] or counts[SoakKind.KNOWN_ISSUE] else ExitStatus.NOTHING_RAN


def soak_run(number: int, result: ScenarioResult, results: str) -> SoakRun:
    """One run, from what a session made of it."""
    side = result.stock
    return SoakRun(
        number=number,
        scenario=result.id,
        kind=_kind(result.conclusion),
        verdict=side.verdict,
        reason=side.reason,
        hazard_taken=side.judgement.hazard.taken,
        emulator_faults=tuple(attempt.reason for attempt in side.attempts),
        seconds=result.seconds,
        results=results,
    )


def _kind(conclusion: Conclusion) -> SoakKind:
    """BLIND and PROVEN need a control, and a soak has none. CHANGED is a pass where a failure was foreseen."""
    return {
        Conclusion.UNPROVEN: SoakKind.PASSED,
        Conclusion.CHANGED: SoakKind.PASSED,
        Conclusion.KNOWN: SoakKind.KNOWN_ISSUE,
        Conclusion.REGRESSION: SoakKind.FALSE_ALARM,
        Conclusion.SKIPPED: SoakKind.SKIPPED,
    }.get(conclusion, SoakKind.UNDECIDED)


def running_line(soak: Soak, run: SoakRun) -> str:
    """One finished run, and where the soak stands."""
    faults = f", after {len(run.emulator_faults)} emulator fault(s)" if run.emulator_faults else ""
    why = "" if run.kind is SoakKind.PASSED else f": {run.reason}"
    return (
        f"{len(soak.runs)}/{soak.wanted} {run.scenario} {run.kind}, {run.seconds:.0f} s{faults}{why}   [{tally(soak)}]"
    )


def tally(soak: Soak) -> str:
    """All counts in a few words; passed, false alarms and undecided always, the others when there are any."""
    counts = soak.counts
    words = [f"{counts[kind]} {kind}" for kind in SoakKind if counts[kind] or kind in _ALWAYS]
    return ", ".join([*words, f"{soak.emulator_faults} emulator faults"])


_ALWAYS = (SoakKind.PASSED, SoakKind.FALSE_ALARM, SoakKind.UNDECIDED)


def summary(soak: Soak) -> list[str]:
    """What a soak ends with: the counts by scenario, and what they say about the rate of false alarms."""
    width = max(map(len, soak.scenarios))
    lines = [f"{'scenario':<{width}}  runs  passed  false  undecided  hazard  seconds"]
    for scenario in soak.scenarios:
        runs = [run for run in soak.runs if run.scenario == scenario]
        kinds = Counter(run.kind for run in runs)
        taken = sum(run.hazard_taken for run in runs)
        mean = f"{sum(run.seconds for run in runs) / len(runs):7.0f}" if runs else "      -"
        lines.append(
            f"{scenario:<{width}}  {len(runs):4}  {kinds[SoakKind.PASSED]:6}  {kinds[SoakKind.FALSE_ALARM]:5}  "
            f"{kinds[SoakKind.UNDECIDED]:9}  {taken:6}  {mean}"
        )
    lines += ["", f"{len(soak.runs)} of {soak.wanted} runs on {soak.stack}: {tally(soak)}", confidence(soak)]
    lines += [
        f"{run.kind.upper()} in run {run.number}, {run.scenario}: {run.reason} ({run.results})"
        for run in soak.runs
        if run.kind in (SoakKind.FALSE_ALARM, SoakKind.UNDECIDED, SoakKind.KNOWN_ISSUE)
    ]
    return lines


def confidence(soak: Soak) -> str:
    """What the decided runs say about the rate of false alarms; undecided and skipped ones say nothing."""
    counts = soak.counts
    alarms = counts[SoakKind.FALSE_ALARM]
    decided = counts[SoakKind.PASSED] + alarms
    if not decided:
        return "no run was decided: nothing is known about false alarms"
    bound = upper_bound(alarms, decided)
    return (
        f"{alarms} false alarms in {decided} decided runs: with 95 % confidence at most {100 * bound:.1f} % of runs "
        f"raise one{' (rule of three: 3/n)' if not alarms else ''}"
    )


def rate(times: int, of: int) -> str:
    """A share with its 95 % interval (Wilson), as text; `not known` of nothing."""
    if not of:
        return "not known"
    z, share = 1.959964, times / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return f"{100 * share:.1f} % ({100 * max(0.0, middle - half):.1f} to {100 * min(1.0, middle + half):.1f} %) of {of}"


def upper_bound(alarms: int, decided: int) -> float:
    """One-sided 95 % upper bound of a rate (Clopper-Pearson); with none seen it is about 3/n, the rule of three."""
    low, high = alarms / decided, 1.0
    for _ in range(60):  # bisection: the chance to see so few falls as the rate rises
        middle = (low + high) / 2
        chance = sum(
            math.comb(decided, seen) * middle**seen * (1 - middle) ** (decided - seen) for seen in range(alarms + 1)
        )
        low, high = (middle, high) if chance > 1 - _CONFIDENCE else (low, middle)
    return high

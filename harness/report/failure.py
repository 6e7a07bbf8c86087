"""The few lines a person needs when a scenario is not as expected. Pure.

What was expected at which checkpoint, what was seen in which view, where to read it, and the command that repeats
just this. Lines are not wrapped: a path or a command that is cut cannot be copied.
"""

from __future__ import annotations

from collections import Counter

from harness.base.text import inert
from harness.judge.judgement import Check, Conclusion, Hazard, Outcome, Verdict
from harness.report.results import RunResult, ScenarioResult, Side
from harness.scenario.spec import ControlRole

_MOST_CHECKS = 4  # the first violation is nearest to the cause; the log has them all
_UNEXPECTED = (Conclusion.REGRESSION, Conclusion.BLIND, Conclusion.CHANGED, Conclusion.UNDECIDED)


def failures(run: RunResult) -> list[str]:
    """Paragraphs for all scenarios that are not as expected, an empty line between two; [] if there are none."""
    lines: list[str] = []
    for scenario in run.scenarios:
        if scenario.conclusion in _UNEXPECTED:
            lines += [*([""] if lines else []), *explain(scenario)]
    return lines


def skipped(run: RunResult) -> list[str]:
    """One line with the reason for each scenario that did not run."""
    return [
        inert(f"SKIPPED {scenario.id} {scenario.device_kind}: {scenario.stock.reason}")
        for scenario in run.scenarios
        if scenario.conclusion is Conclusion.SKIPPED
    ]


def remarks(run: RunResult) -> list[str]:
    """One line for each scenario that needs no paragraph and yet has something to tell: a known issue above all."""
    told = [
        inert(f"{scenario.conclusion} {scenario.id}: {scenario.remark}")
        for scenario in run.scenarios
        if scenario.remark and scenario.conclusion not in _UNEXPECTED
    ]
    kept = Counter(scenario.told for scenario in run.scenarios if scenario.control and scenario.control.kept)
    return told + [
        f"{what}: {number} scenarios, whose controls an earlier run played; --fresh-controls plays them anew"
        for what, number in kept.items()
    ]


def explain(scenario: ScenarioResult) -> list[str]:
    """The paragraph of one scenario, whatever its conclusion."""
    lines = [
        f"{scenario.conclusion} {scenario.id} ({scenario.guest}, {scenario.device_kind} {scenario.device}): "
        f"{scenario.title}"
    ]
    for name, side in scenario.sides:
        if _to_blame(scenario, name, side):
            lines += _side(name, side, _wanted(scenario, name))
    lines += [f"  {scenario.remark}"] if scenario.remark else []
    lines.append(f"  repeat just this: {scenario.command_to_repeat}")
    return [inert(line) for line in lines]


def _to_blame(scenario: ScenarioResult, name: str, side: Side) -> bool:
    """Whether this side is why the scenario is not as expected."""
    if side.verdict.unsettled:
        return True
    if name == "stock":
        return side.verdict is not Verdict.PASS or scenario.conclusion is Conclusion.CHANGED
    return (
        scenario.conclusion not in (Conclusion.PROVEN, Conclusion.CHANGED) and not scenario.stock.verdict.blames_product
    )


def _wanted(scenario: ScenarioResult, name: str) -> str:
    if name == "control" and scenario.control_role is ControlRole.NOTICES:
        return "FAIL, for the defect is there"
    if name == "control":
        return "PASS, the historic cure was applied"
    because = "" if scenario.expected.verdict is Verdict.PASS else f", {scenario.expected.because}"
    return f"{scenario.expected.verdict}{because}"


def _side(name: str, side: Side, wanted: str) -> list[str]:
    where = side.hypervisor if name == "stock" else f"the control {side.hypervisor}"
    lines = [f"  on {where}: expected {wanted}; came to {side.verdict}: {side.reason}"]
    shown = side.judgement.violations
    if side.verdict is Verdict.PASS:  # wrongly so: the last checks show what was looked at and thought good
        shown = side.judgement.checks[-_MOST_CHECKS:]
    for check in shown[:_MOST_CHECKS]:
        lines += _check(check)
    if len(shown) > _MOST_CHECKS:
        lines.append(f"    and {len(shown) - _MOST_CHECKS} more, see the log")
    lines += [_hazard(side.judgement.hazard), f"    log: {side.log}   raw files: {side.raw_directory}"]
    lines += [f"    the emulator failed before this attempt: {attempt.reason}" for attempt in side.attempts]
    return lines


def _check(check: Check) -> list[str]:
    seen = check.seen or "nothing"
    met = " (met)" if check.outcome is Outcome.MET else ""
    lines = [
        f"    {check.checkpoint} {check.checkpoint.moment}: expected {check.subject} {check.expected}; "
        f"seen in the {check.view} view: {seen}{met}"
    ]
    return [*lines, f"       {check.raw}"] if check.raw else lines


def _hazard(hazard: Hazard) -> str:
    taken = "taken" if hazard.taken else "NOT taken" if hazard.promised else "not taken, none was promised"
    how = f": {hazard.how}" if hazard.how else ""
    return f"    hazard {taken}{how}" + (f" ({hazard.raw})" if hazard.raw else "")

"""A run in one sentence: what is not as expected by name, the rest by number. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge.judgement import Conclusion, Verdict
from harness.report.results import CaseResult, RunResult, ScenarioResult, Side
from harness.scenario.repeats import row_of

UNEXPECTED = (Conclusion.REGRESSION, Conclusion.BLIND, Conclusion.CHANGED, Conclusion.UNDECIDED)
_COUNTED = (Conclusion.PROVEN, Conclusion.KNOWN, Conclusion.UNPROVEN, Conclusion.SKIPPED)
_PLAIN = {
    Conclusion.BLIND: "the control did not fail",
    Conclusion.CHANGED: "passed where a failure was expected",
}
_MOST_NAMED = 3
_WORDS = 70


def sentence(run: RunResult, missing: Sequence[str] = ()) -> str:
    """`1 regression: E5-F2-hvm-nvme, interrupts +0 at C6; 22 proven; 1 known`."""
    parts = [missing[0]] if missing else []
    for conclusion in UNEXPECTED:
        found = [one for one in run.played if one.conclusion is conclusion]
        if found:
            named = [f"{one.id}{_device(one)}, {gist(one)}" for one in found[:_MOST_NAMED]]
            more = [f"and {len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
            parts.append(f"{_several(len(found), conclusion)}: {'; '.join([*named, *more])}")
    parts += [f"{run.counts[one]} {one.lower()}" for one in _COUNTED if run.counts.get(one)]
    parts += [] if run.played else ["nothing ran"]
    return "; ".join(parts)


def _device(scenario: ScenarioResult | CaseResult) -> str:
    return (
        ""
        if isinstance(scenario, CaseResult) or row_of(scenario.id).endswith(f"-{scenario.device_kind}")
        else f" on {scenario.device_kind}"
    )


def _several(count: int, what: Conclusion) -> str:
    plural = "s" if what is Conclusion.REGRESSION and count > 1 else ""
    return f"{count} {what.lower()}{plural}"


def gist(scenario: ScenarioResult | CaseResult) -> str:
    """Why, in a few words: the first expectation that was not met, or the reason itself."""
    if scenario.conclusion in _PLAIN:
        return _PLAIN[scenario.conclusion]
    side = _to_blame(scenario) if isinstance(scenario, ScenarioResult) else None
    if side is not None and side.verdict is Verdict.FAIL and side.judgement.violations:
        first = side.judgement.violations[0]
        return clipped(f"{first.subject} {first.seen or 'not seen'} at {first.checkpoint}", _WORDS)
    return clipped(scenario.reason, _WORDS)


def _to_blame(scenario: ScenarioResult) -> Side | None:
    settled = not scenario.stock.verdict.blames_product and not scenario.stock.verdict.unsettled
    return scenario.control if settled and scenario.control else scenario.stock


def clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."

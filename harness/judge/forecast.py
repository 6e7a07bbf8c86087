"""What a scenario is expected to come to on a host, before it is played, and what it means when it does not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.judge.judgement import Check, Verdict
from harness.judge.known import KnownIssue, unexplained
from harness.scenario.spec import Scenario
from harness.xen.keys.fixes import Fix, has_fix
from harness.xen.keys.version import Answer

Issues = Mapping[str, KnownIssue]
NOTHING_KNOWN = "nothing is known against it"


@dataclass(frozen=True)
class Forecast:
    """`due`: the issues expected here; `elsewhere`: those of the same scenario that were not seen on such a host."""

    because: str = NOTHING_KNOWN
    due: tuple[tuple[str, KnownIssue], ...] = ()
    elsewhere: tuple[tuple[str, KnownIssue], ...] = ()

    @property
    def verdict(self) -> Verdict:
        """FAIL only where an issue shows every time."""
        return Verdict.FAIL if self.certain else Verdict.PASS

    @property
    def certain(self) -> tuple[str, ...]:
        """Ids of the issues that a PASS would contradict."""
        return tuple(name for name, issue in self.due if issue.always)

    def explains(self, checks: Sequence[Check]) -> tuple[str, ...]:
        """Ids of the issues that account for everything that was not met; empty when something is left over."""
        return _account_for(self.due, checks)

    def remark(self, verdict: Verdict, checks: Sequence[Check]) -> str:
        """What it means that a run agrees with the forecast or does not, and what to do; empty: nothing to say."""
        if verdict is Verdict.PASS and self.certain:
            return self._changed()
        if verdict is Verdict.PASS and self.due:
            return f"{_names(self.due)} did not show this time; it comes and goes"
        if verdict is not Verdict.FAIL:
            return ""
        if names := self.explains(checks):
            return f"fails as {' and '.join(names)} says: {self.because}"
        if self.due:
            others = unexplained([issue for _, issue in self.due if issue.shows_in(checks)], checks)
            return f"fails otherwise than {_names(self.due)} says" + (f": {_check(others[0])}" if others else "")
        if names := _account_for(self.elsewhere, checks):
            places = " and ".join(issue.seen_on for name, issue in self.elsewhere if name in names)
            return f"looks like {' and '.join(names)}, known from {places}"
        return ""

    def _changed(self) -> str:
        issues = [issue for name, issue in self.due if name in self.certain]
        told = f"expected {' and '.join(self.certain)} and did not see it"
        if all(issue.fix for issue in issues):
            return f"{told}: was the fix backported? Then say so in first_fixed of harness/xen/keys/fixes.yaml"
        return f"{told}: play it again, and if it stays away, take this host out of the issue's entry"


def foresee(scenario: Scenario, facts: Mapping[str, str], fixes: Mapping[str, Fix], issues: Issues) -> Forecast:
    """The forecast for a host with these facts (`xen_version`, `kernel`, `stack`; what is absent is not known)."""
    mine = [(name, issue) for name, issue in issues.items() if issue.concerns(scenario)]
    due = tuple((name, issue) for name, issue in mine if issue.due_on(facts))
    elsewhere = tuple((name, issue) for name, issue in mine if not issue.due_on(facts))
    told = [_why(name, issue, facts, fixes) for name, issue in due] or _of_fixes(scenario, facts, fixes)
    return Forecast("; ".join(told) or NOTHING_KNOWN, due, elsewhere)


def _why(name: str, issue: KnownIssue, facts: Mapping[str, str], fixes: Mapping[str, Fix]) -> str:
    if issue.fix is not None:
        product = fixes[issue.fix].product
        return f"fix {issue.fix} is not in {product.called} {facts[product.fact]}"
    return f"known issue {name}{'' if issue.always else ', which comes and goes'}, {issue.document}"


def _of_fixes(scenario: Scenario, facts: Mapping[str, str], fixes: Mapping[str, Fix]) -> list[str]:
    """What the fixes that the ending depends on have to say; without an entry of their own they change no verdict."""
    told = {
        Answer.YES: "fix {} is in {}",
        Answer.NO: "fix {} is not in {}, and no failure is known from that",
        Answer.UNKNOWN: "whether fix {} is in {} its version does not tell",
    }
    return [
        told[has_fix(fix, facts.get(fix.product.fact, ""))].format(
            commit, f"{fix.product.called} {facts.get(fix.product.fact, 'of unknown version')}"
        )
        for commit, fix in fixes.items()
        if scenario.ending in fix.concerns
    ]


def _account_for(issues: Sequence[tuple[str, KnownIssue]], checks: Sequence[Check]) -> tuple[str, ...]:
    shown = [(name, issue) for name, issue in issues if issue.shows_in(checks)]
    if unexplained([issue for _, issue in shown], checks):
        return ()
    return tuple(name for name, _ in shown)


def _names(issues: Sequence[tuple[str, KnownIssue]]) -> str:
    return " and ".join(name for name, _ in issues)


def _check(check: Check) -> str:
    return f"{check.checkpoint} {check.view}: {check.subject}: seen {check.seen or 'nothing'}"

"""Known issues: a failure is told from another by its signature, and our own entries hold together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import InventoryError
from harness.judge.forecast import Forecast, foresee
from harness.judge.judge import judge
from harness.judge.judgement import Check, Conclusion, Judgement, Outcome, Verdict, conclude
from harness.judge.known import KnownIssue, known_issues
from harness.nested.devices import candidates
from harness.nested.devices import catalogue as devices
from harness.play.catalogue import catalogue
from harness.scenario.choose import all_scenarios
from harness.scenario.record import Record
from harness.scenario.spec import ControlRole
from harness.xen.keys.fixes import registry
from suites.selftest.fakes.goodrecord import C6, C7, good, scenario, view
from suites.selftest.fakes.maskedissue import MASKED, issues
from suites.selftest.fakes.recordfaults import both_masked

TRIXIE = {"xen_version": "4.20.5-pre", "kernel": "6.12.118+deb13-amd64", "stack": "trixie"}
OLD = {"xen_version": "4.10.4", "kernel": "4.9.0-19-amd64"}


def forecast(tmp_path: Path, text: str = MASKED, facts: dict[str, str] = TRIXIE, ending: str = "E14") -> Forecast:
    return foresee(scenario(ending, "F1"), facts, registry(), issues(tmp_path, text))


def masked() -> Record:
    """The defect as the hypervisor without the fix shows it."""
    record = good()
    both_masked(record)
    return record


def concluded(forecast: Forecast, judgement: Judgement, control: Verdict | None = None) -> Conclusion:
    return conclude(
        judgement.verdict,
        control,
        ControlRole.NOTICES,
        due=bool(forecast.certain),
        known=bool(forecast.explains(judgement.checks)),
    )


def test_a_failure_that_looks_as_the_entry_says_is_known(tmp_path: Path) -> None:
    judgement = judge(masked())
    seen = forecast(tmp_path)
    assert judgement.verdict is Verdict.FAIL
    assert seen.verdict is Verdict.FAIL
    assert seen.because == "known issue masked, docs/findings/masked.md"
    assert seen.explains(judgement.checks) == ("masked",)
    assert concluded(seen, judgement) is Conclusion.KNOWN
    assert concluded(seen, judgement, Verdict.FAIL) is Conclusion.KNOWN
    assert "fails as masked says" in seen.remark(judgement.verdict, judgement.checks)


def test_one_more_violated_check_makes_it_a_regression(tmp_path: Path) -> None:
    record = masked()
    view(C6, "hardware", driver="nvme")(record)
    view(C6, "xen", owner="d0")(record)
    judgement = judge(record)
    seen = forecast(tmp_path)
    assert seen.explains(judgement.checks) == ()
    assert concluded(seen, judgement) is Conclusion.REGRESSION
    assert "fails otherwise than masked says: C6 xen: owner: seen d0" in seen.remark(Verdict.FAIL, judgement.checks)


def test_one_check_of_the_signature_that_holds_makes_it_a_regression(tmp_path: Path) -> None:
    record = masked()
    view(C6, "guest", after=25)(record)
    judgement = judge(record)
    assert judgement.verdict is Verdict.FAIL
    assert concluded(forecast(tmp_path), judgement) is Conclusion.REGRESSION


def test_what_was_not_seen_is_no_violation(tmp_path: Path) -> None:
    judgement = judge(masked())
    checks = tuple(
        replace(one, outcome=Outcome.MISSING)
        if (one.checkpoint, one.subject) == (C6, "interrupts under traffic")
        else one
        for one in judgement.checks
    )
    assert concluded(forecast(tmp_path), replace(judgement, checks=checks)) is Conclusion.REGRESSION


def test_a_crash_is_never_known(tmp_path: Path) -> None:
    judgement = replace(judge(masked()), verdict=Verdict.CRASH)
    assert concluded(forecast(tmp_path), judgement) is Conclusion.REGRESSION


def test_a_pass_where_a_failure_was_expected_is_a_change(tmp_path: Path) -> None:
    judgement = judge(good())
    seen = forecast(tmp_path)
    for control in (None, Verdict.FAIL, Verdict.PASS, Verdict.ERROR):
        assert concluded(seen, judgement, control) is Conclusion.CHANGED
    remark = seen.remark(judgement.verdict, judgement.checks)
    assert "expected masked and did not see it" in remark
    assert "entry" in remark


def test_an_issue_that_comes_and_goes_may_stay_away(tmp_path: Path) -> None:
    seen = forecast(tmp_path, MASKED + "  always: false\n")
    passed, failed = judge(good()), judge(masked())
    assert seen.verdict is Verdict.PASS
    assert concluded(seen, passed) is Conclusion.UNPROVEN
    assert "did not show this time" in seen.remark(passed.verdict, passed.checks)
    assert concluded(seen, failed) is Conclusion.KNOWN


def test_a_check_of_any_moment(tmp_path: Path) -> None:
    more = [Check(at, "hardware", "COMMAND", "Mem+", "Mem-", Outcome.VIOLATED) for at in (C6, C7)]
    for told, known in (("any", ("masked",)), ("C6", ()), ("C7", ())):
        text = f"{MASKED}    - {{at: {told}, view: hardware, subject: COMMAND}}\n"
        assert forecast(tmp_path, text).explains([*judge(masked()).checks, *more]) == known
    with pytest.raises(InventoryError, match="any"):
        issues(tmp_path, MASKED.replace("at: C6", "at: somewhen", 1))


@pytest.mark.parametrize(
    "facts", [{}, {"xen_version": "4.19.3"}, {"xen_version": "?"}, {"xen_version": "4.20", "stack": "trixie"}]
)
def test_an_issue_is_expected_only_where_it_was_seen(tmp_path: Path, facts: dict[str, str]) -> None:
    seen = forecast(tmp_path, MASKED + "  stacks: [bookworm]\n", facts)
    judgement = judge(masked())
    assert (seen.verdict, seen.due) == (Verdict.PASS, ())
    assert concluded(seen, judgement) is Conclusion.REGRESSION
    assert "looks like masked, known from Xen 4.20 and bookworm" in seen.remark(Verdict.FAIL, judgement.checks)


@pytest.mark.parametrize(("facts", "due"), [({}, 0), ({"xen_version": "unknown"}, 0), ({"xen_version": "4.20"}, 1)])
def test_a_host_that_does_not_tell_its_version_is_not_where_it_was_seen(
    tmp_path: Path, facts: dict[str, str], due: int
) -> None:
    assert len(forecast(tmp_path, facts=facts).due) == due


@pytest.mark.parametrize(
    ("kernel", "due"),
    [("6.12.118+deb13-amd64", 1), ("6.1.0-35-amd64", 1), ("6.6.1", 0), ("5.10.0-35-amd64", 0), ("?", 0)],
)
def test_an_issue_may_go_by_the_kernel(tmp_path: Path, kernel: str, due: int) -> None:
    facts = {"xen_version": "4.20", "kernel": kernel}
    seen = forecast(tmp_path, MASKED + '  linux: ["6.1", "6.12"]\n', facts)
    assert len(seen.due) == due
    if not due:
        assert "known from Xen 4.20 and Linux 6.1 and Linux 6.12" in seen.remark(Verdict.FAIL, judge(masked()).checks)


def test_another_scenario_is_not_concerned(tmp_path: Path) -> None:
    seen = forecast(tmp_path, ending="E3")
    assert (seen.verdict, seen.due, seen.elsewhere) == (Verdict.PASS, (), ())


def test_two_issues_at_once_explain_what_neither_does_alone(tmp_path: Path) -> None:
    owner = """\
owner:
  title: another owner
  document: docs/findings/owner.md
  scenarios: ["E14-*"]
  stacks: [trixie]
  violated: [{at: C6, view: xen, subject: owner}]
"""
    record = masked()
    view(C6, "xen", owner="d0")(record)
    judgement = judge(record)
    assert forecast(tmp_path, MASKED + owner).explains(judgement.checks) == ("masked", "owner")
    assert forecast(tmp_path, MASKED + owner).explains(judge(masked()).checks) == ("masked",)
    assert forecast(tmp_path, owner).explains(judgement.checks) == ()


@pytest.mark.parametrize(
    ("pattern", "explained"),
    [
        ("at: C6, view: xen, subject: owner", True),
        ("at: any, view: xen, subject: own*, seen: d0", True),
        ("at: C6, view: xen, subject: owner, seen: d1", False),
        ("at: C5, view: xen, subject: owner", False),
        ("at: C6, view: hardware, subject: owner", False),
        ("at: C6, view: xen, subject: irq *", False),
    ],
)
def test_a_known_issue_is_told_by_moment_view_subject_and_what_was_seen(
    tmp_path: Path, pattern: str, explained: bool
) -> None:
    issue = f"""\
owner:
  title: another owner
  document: docs/findings/owner.md
  scenarios: ["E14-*"]
  stacks: [trixie]
  violated: [{{{pattern}}}]
"""
    record = good()
    view(C6, "xen", owner="d0")(record)
    assert (forecast(tmp_path, issue).explains(judge(record).checks) == ("owner",)) is explained


def test_a_missing_fix_is_foreseen_by_the_version() -> None:
    seen = foresee(scenario("E14", "F1"), OLD, registry(), known_issues())
    judgement = judge(masked())
    assert (seen.verdict, seen.because) == (Verdict.FAIL, "fix 575e18d54d19 is not in Xen 4.10.4")
    assert concluded(seen, judgement) is Conclusion.KNOWN
    passed = judge(good())
    assert concluded(seen, passed) is Conclusion.CHANGED
    assert "backported?" in seen.remark(passed.verdict, passed.checks)


def test_a_fix_that_the_version_has_is_said_and_its_absence_recognised() -> None:
    seen = foresee(scenario("E14", "F1"), TRIXIE, registry(), known_issues())
    judgement = judge(masked())
    assert (seen.verdict, seen.because) == (Verdict.PASS, "fix 575e18d54d19 is in Xen 4.20.5-pre")
    assert concluded(seen, judgement) is Conclusion.REGRESSION
    assert "known from hosts without fix 575e18d54d19" in seen.remark(Verdict.FAIL, judgement.checks)


def test_a_fix_that_the_version_does_not_tell_excuses_nothing() -> None:
    seen = foresee(scenario("E14", "F1"), {"xen_version": "4.12.2-pre"}, registry(), known_issues())
    assert seen.verdict is Verdict.PASS
    assert "does not tell" in seen.because
    assert concluded(seen, judge(masked())) is Conclusion.REGRESSION


CHECKS = st.lists(
    st.builds(
        Check,
        st.just(C6),
        st.sampled_from(["guest", "hardware", "xen"]),
        st.sampled_from(["interrupts under traffic", "message control", "irq 44", "owner"]),
        st.just("x"),
        st.sampled_from(["Enable+ Masked+", "0"]),
        st.sampled_from(Outcome),
    ),
    max_size=7,
)


@given(CHECKS, CHECKS)
def test_more_that_is_violated_never_makes_a_failure_known(checks: list[Check], more: list[Check]) -> None:
    """Except by completing the signature: a strange check that is not met can never be explained away."""
    issue = KnownIssue.model_validate(
        {
            "title": "t", "document": "docs/findings/t.md", "scenarios": ["*"], "xen": ["4.20"],
            "violated": [{"at": "C6", "view": "guest", "subject": "interrupts under traffic"}],
            "also": [{"at": "C6", "view": "xen", "subject": "irq *"}],
        }
    )  # fmt: skip
    seen = Forecast(due=(("t", issue),))
    strange = [
        one
        for one in [*checks, *more]
        if one.outcome is not Outcome.MET and one.subject in ("owner", "message control")
    ]
    if seen.explains([*checks, *more]):
        assert not strange
    if strange:
        assert not seen.explains([*more, *checks])


def test_an_issue_of_one_toolstack_is_not_expected_of_another(tmp_path: Path) -> None:
    text = MASKED.replace('  xen: ["4.20"]\n', '  xen: ["4.20"]\n  toolstacks: [libvirt]\n')
    assert forecast(tmp_path, text, {**TRIXIE, "toolstack": "libvirt"}).verdict is Verdict.FAIL
    assert forecast(tmp_path, text, {**TRIXIE, "toolstack": "xl"}).verdict is Verdict.PASS
    with pytest.raises(InventoryError, match=r"issues\.yaml:6"):
        issues(tmp_path, text.replace("[libvirt]", "[libvrt]"))


def test_what_libvirt_leaves_in_quarantine_is_known_of_libvirt_alone() -> None:
    row = scenario("E14", "F3")
    record = good("E14", "F3")
    view(C7, "xen", owner="DomIO")(record)
    record.observations[-1] = replace(record.observations[-1], guest=None)  # a driver that hangs answers nothing
    judgement = judge(record)
    assert judgement.verdict is Verdict.FAIL
    due = foresee(row, {**TRIXIE, "toolstack": "libvirt"}, registry(), known_issues())
    assert due.explains(judgement.checks) == ("libvirt-leaves-quarantine",)
    assert not foresee(row, {**TRIXIE, "toolstack": "xl"}, registry(), known_issues()).due


@pytest.mark.parametrize("name", known_issues())
def test_what_is_known_of_a_row_is_known_each_time_that_it_is_played(name: str) -> None:
    rows = all_scenarios(catalogue(), candidates(devices()))
    concerned = [row for row in rows if known_issues()[name].concerns(row)]
    assert concerned
    for row in concerned:
        for facts in (TRIXIE, OLD):
            again = foresee(replace(row, repeat=2), facts, registry(), known_issues())
            assert again == foresee(row, facts, registry(), known_issues())

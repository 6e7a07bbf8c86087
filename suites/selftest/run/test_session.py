"""A whole run over a make-believe lab: sides, conclusions, errors, and what is on disk in the end."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from harness.base.errors import ExitStatus
from harness.base.progress import PlainProgress
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judge import judge
from harness.judge.judgement import Conclusion, Verdict
from harness.judge.known import known_issues
from harness.model.message import Meaning, Message, Origin
from harness.model.observation import Checkpoint, RawRef
from harness.play.run import PlayedSide
from harness.report.results import RunResult
from harness.run import side as module
from harness.run import store
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.schema import schema
from harness.run.session import Session
from harness.scenario.spec import ControlRole, Scenario
from suites.selftest.fakes.goodrecord import good, scenario
from suites.selftest.fakes.patience import FOREVER
from suites.selftest.fakes.sessionrun import (
    BROKEN,
    E1,
    ENTRY,
    F1,
    F8,
    MUTANT,
    MUTANTS,
    FakeLab,
    Player,
    Run,
    essence,
    honest,
    played_by,
    run,
)

__all__ = ["played_by", "run"]
ODD = Message(Checkpoint.C6, Origin.DOM0, Meaning.UNKNOWN, "odd", RawRef("raw/x", "ab" * 32, 7))
pytestmark = pytest.mark.usefixtures("played_by")


def test_a_scenario_is_proven_by_both_sides(run: Run) -> None:
    (result,) = run(F1)
    assert (result.conclusion, result.stock.verdict) == (Conclusion.PROVEN, Verdict.PASS)
    assert result.control is not None
    assert (result.control.verdict, result.control.hypervisor) == (Verdict.FAIL, MUTANT)
    assert result.control.reason.startswith("C6 ")
    assert result.command_to_repeat == "./tools/maskall run E14-F1-hvm-nvme --mutant no-maskall-reset"


def test_the_historic_cure_must_pass_on_the_control_too(run: Run) -> None:
    (result,) = run(F8)
    assert (result.conclusion, result.control_role) == (Conclusion.PROVEN, ControlRole.CURES)
    assert result.control is not None and result.control.verdict is Verdict.PASS


def test_the_control_runs_only_where_it_promises_something(run: Run) -> None:
    (result,) = run(E1)
    assert (result.control, result.conclusion, run.lab.hosts) == (None, Conclusion.UNPROVEN, 1)


def test_without_a_control_nothing_is_proven(run: Run) -> None:
    (result,) = run(F1, control=None)
    assert (result.control, result.conclusion, run.lab.hosts) == (None, Conclusion.UNPROVEN, 1)


def test_a_mutant_under_test_is_a_regression(run: Run) -> None:
    (result,) = run(F1, control=None, under_test=MUTANT)
    assert (result.conclusion, result.stock.hypervisor) == (Conclusion.REGRESSION, MUTANT)


def test_a_known_issue_is_held_against_what_was_seen(tmp_path: Path) -> None:
    issues = known_issues()
    new = Run(tmp_path / "new")
    (mutated,) = new(F1, control=None, under_test=MUTANT, issues=issues)
    assert (mutated.conclusion, mutated.expected.verdict) == (Conclusion.REGRESSION, Verdict.PASS)
    assert "known from hosts without fix 575e18d54d19" in mutated.remark
    old = Run(tmp_path / "old", FakeLab(xen="4.10.4"))
    (known,) = old(F1, control=None, under_test=MUTANT, issues=issues)
    assert (known.conclusion, known.expected.verdict) == (Conclusion.KNOWN, Verdict.FAIL)
    assert known.expected.because == "fix 575e18d54d19 is not in Xen 4.10.4"
    assert old.session.finish().exit_status is ExitStatus.OK
    cured = Run(tmp_path / "cured", FakeLab(xen="4.10.4"))
    (changed,) = cured(F1, issues=issues)
    assert changed.conclusion is Conclusion.CHANGED
    assert cured.session.finish().exit_status is ExitStatus.FAILED


def test_strict_messages_judge_the_side_under_test_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown line must not make the control fail, for that would prove the scenario."""

    def play(row: Scenario, host: Host, *rest: object, strict_messages: bool, **options: object) -> PlayedSide:
        record = good()
        record.messages, record.strict_messages = [ODD], strict_messages
        return PlayedSide(record, judge(record))

    monkeypatch.setattr(module, "play", play)
    plan = Plan((F1,), RunOptions(profile="certify", mutant=MUTANT), MUTANTS, {}, tmp_path)
    result = Session(FakeLab(), plan, PlainProgress(io.StringIO())).run(F1)
    assert result.control is not None
    assert (result.stock.verdict, result.control.verdict) == (Verdict.FAIL, Verdict.PASS)
    assert "  unknown, 1x, dom0: odd\n      raw/x:7\n" in (tmp_path / result.stock.log).read_text()


def test_a_blind_scenario(run: Run, played_by: Callable[[Player], None]) -> None:
    played_by(lambda row, host, evidence: PlayedSide(good(), judge(good())))
    assert run(F1)[0].conclusion is Conclusion.BLIND


def test_side_by_side_is_only_faster(tmp_path: Path) -> None:
    together, apart = Run(tmp_path / "a"), Run(tmp_path / "b")
    assert essence(together(F1, F8, E1)) == essence(apart(F1, F8, E1, together=False))
    assert apart.lab.most == 1
    assert together.lab.hosts == apart.lab.hosts == 5


def test_both_sides_really_run_at_once(run: Run, played_by: Callable[[Player], None]) -> None:
    meeting = threading.Barrier(2, timeout=FOREVER)

    def meet(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
        meeting.wait()
        return honest(row, host, evidence)

    played_by(meet)
    assert run(F1)[0].conclusion is Conclusion.PROVEN
    assert run.lab.most == 2


class TestErrors:
    def test_a_lab_without_hosts(self, run: Run) -> None:
        run.lab.unreachable = True
        (result,) = run(F1)
        assert (result.conclusion, result.stock.verdict) == (Conclusion.UNDECIDED, Verdict.ERROR)
        assert result.stock.reason == "nested: no answer"
        assert run.session.finish().exit_status is ExitStatus.UNDECIDED == 3

    def test_a_mutant_that_does_not_fit_leaves_stock_alone(self, run: Run) -> None:
        run.lab.text = b"\x90" * 16
        (result,) = run(F1)
        assert result.control is not None
        assert (result.stock.verdict, result.control.verdict) == (Verdict.PASS, Verdict.ERROR)
        assert "is not that of its file" in result.control.reason
        assert result.conclusion is Conclusion.UNDECIDED
        assert run.session.finish().controls == ()

    def test_no_debugger_no_control(self, run: Run) -> None:
        run.lab.debugger = False
        (result,) = run(F1)
        assert result.control is not None and result.conclusion is Conclusion.UNDECIDED
        assert "no debugger to apply mutant" in result.control.reason

    def test_no_debugger_no_trace(self, run: Run) -> None:
        run.lab.debugger = False
        (result,) = run(F1, control=None, trace=True)
        assert (result.conclusion, result.stock.reason) == (
            Conclusion.SKIPPED,
            "the host has no debugger to trace with",
        )

    def test_a_missing_power_is_a_skip_with_its_reason(self, run: Run) -> None:
        run.lab.debugger = False
        (result,) = run(scenario("decode-off-at-teardown", "F1"), control=None)
        assert (result.conclusion, result.stock.reason) == (Conclusion.SKIPPED, "the host has no debugger")
        assert run.session.finish().exit_status is ExitStatus.NOTHING_RAN

    @pytest.mark.parametrize("together", [True, False])
    def test_a_bug_of_our_own_is_not_swallowed(
        self, run: Run, played_by: Callable[[Player], None], together: bool
    ) -> None:
        def broken(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
            raise ZeroDivisionError

        played_by(broken)
        with pytest.raises(ZeroDivisionError):
            run(F1, together=together)
        assert run.lab.aborted
        assert run.lab.now == 0


class TestOnDisk:
    def test_results_are_complete_and_valid(self, run: Run) -> None:
        run(F1, E1)
        result = run.session.finish()
        written = json.loads((run.root / "results.json").read_text())
        jsonschema.validate(written, schema())
        assert store.load(run.root / "results.json", RunResult) == result
        assert result.run_id == "20260102-030405-abcd"
        assert result.counts == {Conclusion.PROVEN: 1, Conclusion.UNPROVEN: 1}
        assert result.host.nested and result.host.label
        (control,) = result.controls
        (change,) = control.changes
        assert (control.name, control.layer, change.place.address) == (MUTANT, "hypervisor", ENTRY)
        assert change.after == BROKEN

    def test_junit(self, run: Run) -> None:
        run(F1, E1)
        run.session.finish()
        root = ElementTree.fromstring((run.root / "junit.xml").read_bytes())  # noqa: S314 - written by ourselves
        assert len(list(root.iter("testcase"))) >= 2

    def test_every_side_has_its_log(self, run: Run) -> None:
        (result,) = run(F1)
        assert result.control is not None
        for side in (result.stock, result.control):
            text = (run.root / side.log).read_text()
            assert text.startswith(f"{side.hypervisor}: {side.verdict}: {side.reason}\n")
            for check in side.judgement.checks:
                assert f"{check.subject}: expected {check.expected}, seen {check.seen}\n" in text
            assert (run.root / side.raw_directory / "01-note.txt").exists()
        assert result.stock.log != result.control.log

    def test_a_run_that_did_nothing(self, run: Run) -> None:
        run()
        assert run.session.finish().exit_status is ExitStatus.NOTHING_RAN
        assert (run.root / "results.json").exists()

"""A run whose time is over: what had begun is played whole, the rest is left out and says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.base.deadline import Deadline
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judgement import Conclusion, Verdict
from harness.play.run import PlayedSide
from harness.plugin import Given
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.session import Session
from harness.scenario.spec import Scenario
from suites.selftest.fakes.goodrecord import scenario
from suites.selftest.fakes.sessionrun import MUTANT, MUTANTS, Player, honest, played_by
from suites.selftest.run.test_session_ahead import lab_of, session

__all__ = ["played_by"]

ROWS = tuple(scenario(*row) for row in (("E14", "F1"), ("E1", "F1"), ("E3", "F1")))
TESTS = """
def test_before(last_begin): last_begin()
def test_after(): raise AssertionError("it was begun")
"""


@pytest.fixture
def timed(tmp_path: Path) -> Session:
    """One host at a time, and the time of --for is not over."""
    made = session(tmp_path / "a", workers=1, rows=ROWS)
    options = RunOptions(mutant=MUTANT, workers=1, for_="90m")
    made.plan = Plan(ROWS, options, MUTANTS, {}, made.plan.results)
    return made


def time_over(options: RunOptions) -> None:
    options.__dict__["last_begin"] = Deadline.after(0)


def test_there_is_no_end_unless_it_is_asked_for() -> None:
    assert RunOptions().last_begin is None
    assert RunOptions(for_="2m").last_begin is not None


@pytest.mark.usefixtures("played_by")
def test_a_row_that_begins_as_the_time_runs_out_is_played_whole(timed: Session) -> None:
    answers = iter([False, *[True] * 100])

    class RunsOut(Deadline):
        @property
        def expired(self) -> bool:
            return next(answers)

    timed.plan.options.__dict__["last_begin"] = RunsOut(0)
    assert [timed.run(row).conclusion for row in ROWS[:2]] == [Conclusion.PROVEN, Conclusion.SKIPPED]


@pytest.mark.usefixtures("played_by")
def test_a_row_that_had_begun_is_played_with_its_control(timed: Session, played_by: Callable[[Player], None]) -> None:
    def slow(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
        time_over(timed.plan.options)
        return honest(row, host, evidence)

    played_by(slow)
    first, *others = [timed.run(row) for row in ROWS]
    assert first.conclusion is Conclusion.PROVEN
    assert [one.conclusion for one in others] == [Conclusion.SKIPPED, Conclusion.SKIPPED]
    assert {one.stock.reason for one in others} == {timed.plan.options.left_out}
    assert lab_of(timed).hosts == 2
    assert [one.stock.verdict for one in timed.finish().scenarios] == [Verdict.PASS, Verdict.SKIP, Verdict.SKIP]


def test_a_control_that_was_left_out_is_no_proof_for_later(timed: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs = Mock()
    monkeypatch.setattr(Session, "_proofs", proofs)
    time_over(timed.plan.options)
    result = timed.run(ROWS[0])
    assert (result.conclusion, lab_of(timed).hosts) == (Conclusion.SKIPPED, 0)
    assert proofs.mock_calls == []


def test_so_is_a_test_that_plays_no_scenario(tmp_path: Path) -> None:
    class Over:
        """Ends the time while the first test is played."""

        skipped: tuple[str, ...] = ()

        @pytest.fixture
        def last_begin(self) -> Callable[[], None]:
            return lambda: time_over(options)

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.skipped:
                self.skipped += (report.nodeid.rpartition("::")[2], str(report.longrepr))

    options, over = RunOptions(for_="5m"), Over()
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = ["-c", str(tmp_path / "pytest.ini"), "-p", "no:terminal", "-p", "no:cacheprovider", str(tmp_path)]
    assert pytest.main(words, plugins=[Given(options), over]) == pytest.ExitCode.OK
    name, told = over.skipped
    assert name == "test_after"
    assert "--for 5m was over before it began" in told

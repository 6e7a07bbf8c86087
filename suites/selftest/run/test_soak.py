"""Soaking: what is counted as what, what survives an interruption, and what the counts say."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.deadline import Deadline
from harness.base.errors import EmulatorFault, EvidenceError, ExitStatus, HostUnreachable, UsageError
from harness.base.progress import PlainProgress, Progress
from harness.cli.soak import go_on
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judge import judge
from harness.judge.judgement import Conclusion
from harness.play.run import PlayedSide
from harness.report.results import RunResult
from harness.report.soak import Soak, SoakKind, confidence, soak_run, summary, upper_bound
from harness.run import side, store
from harness.run.many import SOAK as FILE
from harness.run.option import seconds_of
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.soak import Soaking
from harness.scenario.spec import Scenario
from suites.selftest.fakes.goodrecord import scenario
from suites.selftest.fakes.recordfaults import both_masked
from suites.selftest.fakes.sessionrun import MUTANTS, FakeLab, honest

ROWS = {row.id: row for row in (scenario("E14", "F1"), scenario("E14", "F2"))}


def fresh(wanted: int) -> Soak:
    return Soak(
        tool_version="1",
        started=datetime(2026, 1, 2, tzinfo=UTC),
        stack="trixie",
        profile="ci",
        devices=("nvme",),
        scenarios=tuple(ROWS),
        wanted=wanted,
        facts={},
    )


@dataclass
class Bath:
    """A soak over a make-believe lab; `play` may be given per run, else every run passes."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    lab: FakeLab = field(default_factory=FakeLab)
    screen: io.StringIO = field(default_factory=io.StringIO)
    begun: int = 0

    def __call__(
        self,
        soak: Soak,
        odd: Callable[[Scenario, Host, EvidenceStore, int], PlayedSide] | None = None,
        *,
        workers: int = 1,
        last_begin: Deadline | None = None,
    ) -> Soak:
        def play(row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress, **more: object) -> PlayedSide:
            self.begun += 1
            return odd(row, host, evidence, self.begun) if odd else honest(row, host, evidence)

        self.monkeypatch.setattr(side, "play", play)
        plan = Plan(tuple(ROWS.values()), RunOptions(no_control=True, workers=workers), MUTANTS, {}, self.root)
        return Soaking(self.lab, soak, plan, ROWS, PlainProgress(self.screen), last_begin).run()


@pytest.fixture
def bath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bath:
    return Bath(tmp_path / "soak", monkeypatch)


def guilty(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
    played = honest(row, host, evidence)
    both_masked(played.record)
    return replace(played, judgement=judge(played.record))


def test_every_run_has_a_host_and_a_place_of_its_own(bath: Bath) -> None:
    ended = bath(fresh(5))
    assert bath.lab.hosts == 5
    assert [run.number for run in ended.runs] == [1, 2, 3, 4, 5]
    assert [run.scenario[:6] for run in ended.runs] == ["E14-F1", "E14-F2", "E14-F1", "E14-F2", "E14-F1"]
    assert all((bath.root / run.results / "results.json").is_file() for run in ended.runs)
    assert all(run.kind is SoakKind.PASSED and run.hazard_taken for run in ended.runs)
    assert ended.exit_status is ExitStatus.OK
    assert store.load(bath.root / FILE, Soak) == ended


def test_workers_share_the_runs(bath: Bath) -> None:
    ended = bath(fresh(6), workers=3)
    assert [run.number for run in ended.runs] == [1, 2, 3, 4, 5, 6]
    assert bath.lab.hosts == 6


def test_a_product_failure_is_a_false_alarm(bath: Bath) -> None:
    ended = bath(fresh(4), lambda row, host, evidence, number: (guilty if number == 3 else honest)(row, host, evidence))
    assert [run.kind for run in ended.runs] == [SoakKind.PASSED, SoakKind.PASSED, SoakKind.FALSE_ALARM, SoakKind.PASSED]
    assert ended.exit_status is ExitStatus.FAILED == 1
    assert any(line.startswith("FALSE ALARM in run 3, E14-F1-hvm-nvme: C6 ") for line in summary(ended))


def test_emulator_faults_are_counted_apart(bath: Bath) -> None:
    def spoiled(row: Scenario, host: Host, evidence: EvidenceStore, number: int) -> PlayedSide:
        played = honest(row, host, evidence)
        return replace(played, error=EmulatorFault("triple fault in Xen's text")) if number == 2 else played

    ended = bath(fresh(3), spoiled)
    assert [len(run.emulator_faults) for run in ended.runs] == [0, 1, 0]
    assert ended.counts == {SoakKind.PASSED: 3}
    assert ended.emulator_faults == 1
    assert "after 1 emulator fault" in bath.screen.getvalue()


def test_what_the_lab_does_not_carry_is_undecided(bath: Bath) -> None:
    def lost(row: Scenario, host: Host, evidence: EvidenceStore, number: int) -> PlayedSide:
        return PlayedSide.failed(row, HostUnreachable("no answer")) if number == 1 else honest(row, host, evidence)

    ended = bath(fresh(2), lost)
    assert ended.counts == {SoakKind.UNDECIDED: 1, SoakKind.PASSED: 1}
    assert ended.exit_status is ExitStatus.UNDECIDED
    assert confidence(ended).startswith("0 false alarms in 1 decided runs")


def test_ctrl_c_loses_no_finished_run_and_the_soak_goes_on(bath: Bath) -> None:
    def interrupted(row: Scenario, host: Host, evidence: EvidenceStore, number: int) -> PlayedSide:
        if number == 3:
            raise KeyboardInterrupt
        return honest(row, host, evidence)

    with pytest.raises(KeyboardInterrupt):
        bath(fresh(4), interrupted)
    assert bath.lab.aborted
    kept = store.load(bath.root / FILE, Soak)
    assert kept.open == (3, 4)
    evidence = bath.root / "runs" / "0003" / "raw"
    evidence.mkdir(parents=True)
    ended = bath(kept)
    assert [run.number for run in ended.runs] == [1, 2, 3, 4]
    assert ended.runs[2].results == "runs/0003-1", "what a broken run left behind is not written over"


def test_no_run_begins_after_its_time(bath: Bath) -> None:
    class AfterThree(Deadline):
        @property
        def expired(self) -> bool:
            return bath.begun == 3

    ended = bath(fresh(50), last_begin=AfterThree(0))
    assert len(ended.runs) == 3
    assert "of 50 runs" in "\n".join(summary(ended))


def test_nothing_decided_proves_nothing() -> None:
    assert fresh(3).exit_status is ExitStatus.NOTHING_RAN
    assert confidence(fresh(3)) == "no run was decided: nothing is known about false alarms"


@pytest.mark.parametrize(("alarms", "decided", "bound"), [(0, 100, 0.0295), (0, 300, 0.00994), (1, 100, 0.0466)])
def test_bound_of_a_rate(alarms: int, decided: int, bound: float) -> None:
    """Figures from the exact binomial distribution: 1 - 0.05 ** (1/n) for none."""
    assert upper_bound(alarms, decided) == pytest.approx(bound, abs=5e-5)


@given(st.integers(1, 400))
def test_none_seen_is_the_rule_of_three(decided: int) -> None:
    assert upper_bound(0, decided) == pytest.approx(1 - 0.05 ** (1 / decided))
    assert upper_bound(0, decided) < 3 / decided


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1h1m1s", 3661)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "0h", "-1h", "h", "2d", "1m1h", "٣h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="no duration"):
        seconds_of(text)


def test_resuming_what_is_no_soak(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        go_on(tmp_path, RunOptions(), runs=None)
    (tmp_path / FILE).write_text('{"schema_version": "1"}')
    with pytest.raises(EvidenceError, match=f"{FILE}: tool_version: Field required"):
        go_on(tmp_path, RunOptions(), runs=None)


def test_resuming_wants_no_fewer_runs_than_there_are(bath: Bath) -> None:
    bath(fresh(3))
    with pytest.raises(UsageError, match="--runs 2: 3 are done already"):
        go_on(bath.root, RunOptions(), runs=2)


@pytest.mark.parametrize(
    ("conclusion", "kind"),
    [
        (Conclusion.UNPROVEN, SoakKind.PASSED),
        (Conclusion.CHANGED, SoakKind.PASSED),
        (Conclusion.KNOWN, SoakKind.KNOWN_ISSUE),
        (Conclusion.REGRESSION, SoakKind.FALSE_ALARM),
        (Conclusion.UNDECIDED, SoakKind.UNDECIDED),
        (Conclusion.SKIPPED, SoakKind.SKIPPED),
    ],
)
def test_only_an_unexplained_failure_is_a_false_alarm(bath: Bath, conclusion: Conclusion, kind: SoakKind) -> None:
    bath(fresh(1))
    (result,) = store.load(bath.root / "runs" / "0001" / "results.json", RunResult).scenarios
    assert soak_run(1, result.model_copy(update={"conclusion": conclusion}), "runs/0001").kind is kind

"""What a session does again, and what it lets a lab play before a host is frozen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import jsonschema
import pytest

from harness.base.errors import ExitStatus, GuestDied, LabError
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judgement import Conclusion, Verdict
from harness.play.run import PlayedSide
from harness.run.options import RunOptions
from harness.run.schema import schema
from harness.run.side import MAX_EMULATOR_RETRIES
from harness.scenario.spec import Scenario
from suites.selftest.fakes.goodrecord import scenario
from suites.selftest.fakes.sessionrun import (
    E1,
    F1,
    F8,
    MUTANT,
    MUTANTS,
    TROUBLE,
    Player,
    Run,
    honest,
    mutated,
    played_by,
    run,
)

__all__ = ["played_by", "run"]
pytestmark = pytest.mark.usefixtures("played_by")


class TestRetries:
    def test_a_guest_that_died_before_any_fault_is_tried_again(
        self, run: Run, played_by: Callable[[Player], None]
    ) -> None:
        left = [GuestDied("guest A (d1) did not reach its userland, before any fault was made")]
        reason = left[0].message

        def spoiled(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
            played = honest(row, host, evidence)
            return replace(played, error=left.pop()) if left else played

        played_by(spoiled)
        (result,) = run(E1)
        assert result.stock.verdict is Verdict.PASS
        assert [one.reason for one in result.stock.attempts] == [reason]

    @pytest.mark.parametrize("faults", [1, MAX_EMULATOR_RETRIES])
    def test_the_emulators_own_faults_are_retried(
        self, run: Run, played_by: Callable[[Player], None], faults: int
    ) -> None:
        left = [TROUBLE] * faults

        def spoiled(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
            played = honest(row, host, evidence)
            return replace(played, error=left.pop()) if left else played

        played_by(spoiled)
        (result,) = run(E1)
        assert (result.stock.verdict, len(result.stock.attempts)) == (Verdict.PASS, faults)
        assert {one.reason for one in result.stock.attempts} == {TROUBLE.message}
        assert run.lab.hosts == faults + 1, "each try has a host of its own"
        assert result.stock.raw_directory == f"raw/{E1.id}/stock-retry{faults}"
        assert len(list((run.root / f"raw/{E1.id}").iterdir())) == faults + 1, "the spoiled tries are kept"
        assert run.screen.getvalue().count("trying again") == faults
        finished = run.session.finish()
        assert (finished.emulator_faults, finished.exit_status) == (faults, ExitStatus.OK)

    def test_but_not_for_ever(self, run: Run, played_by: Callable[[Player], None]) -> None:
        played_by(lambda row, host, evidence: PlayedSide.failed(row, TROUBLE))
        (result,) = run(E1)
        assert (result.stock.verdict, result.conclusion) == (Verdict.ERROR, Conclusion.UNDECIDED)
        assert (len(result.stock.attempts), run.lab.hosts) == (MAX_EMULATOR_RETRIES, MAX_EMULATOR_RETRIES + 1)
        assert run.session.finish().exit_status is ExitStatus.UNDECIDED

    def test_other_errors_are_not_retried(self, run: Run, played_by: Callable[[Player], None]) -> None:
        played_by(lambda row, host, evidence: PlayedSide.failed(row, LabError("full disk")))
        (result,) = run(E1)
        assert (result.stock.attempts, run.lab.hosts, result.stock.reason) == ((), 1, "full disk")

    def test_a_failure_of_the_product_is_never_retried(self, run: Run) -> None:
        (result,) = run(F1, control=None, under_test=MUTANT)
        assert (result.stock.verdict, result.stock.attempts, run.lab.hosts) == (Verdict.FAIL, (), 1)


class TestOpenings:
    """What a lab is offered to have played before it freezes a host."""

    def test_all_that_open_alike_want_the_same(self, run: Run) -> None:
        run(F1, F8, E1, scenario("E14", "F3"), together=False)
        keys = [opener.key for opener in run.lab.openers if opener is not None]
        wanted = [opener.wanted for opener in run.lab.openers if opener is not None]
        assert wanted == [5, 5, 5, 5, 5, 2, 2], "E14 with both sides; F3 has dom0's driver work first"
        assert len(set(keys)) == 2

    def test_a_mutant_that_acts_before_c2_is_there_from_the_beginning(self, run: Run) -> None:
        early = {MUTANT: MUTANTS[MUTANT].model_copy(update={"from_c2": False})}
        run(F1, together=False, mutants=early)
        assert [opener and opener.wanted for opener in run.lab.openers] == [1, None]

    def test_cold_and_traced_is_from_the_beginning(self, run: Run) -> None:
        run(F1, cold=True)
        run(F1, trace=True)
        assert run.lab.openers == [None] * 4
        plan = run.session.plan
        assert replace(plan, options=RunOptions()).opening(F1, "stock") is not None
        libvirt = replace(plan, options=RunOptions(toolstack="libvirt"))
        assert libvirt.opening(F1, "stock") is None

    def test_a_create_that_is_refused_has_no_opening(self, run: Run) -> None:
        run(scenario("E13", "F1"))
        assert run.lab.openers == [None]

    def test_another_try_is_from_the_beginning(self, run: Run, played_by: Callable[[Player], None]) -> None:
        played_by(lambda row, host, evidence: PlayedSide.failed(row, TROUBLE))
        run(E1)
        assert [opener is None for opener in run.lab.openers] == [False, True, True]

    def test_what_the_code_is_counts(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        run(E1)
        monkeypatch.setattr("harness.run.plan.code_digest", lambda: "changed")
        run(E1)
        first, second = (opener.key for opener in run.lab.openers if opener)
        assert first != second

    def test_the_result_says_so(self, run: Run, played_by: Callable[[Player], None]) -> None:
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

        def opened(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
            played = honest(row, host, evidence)
            if not mutated(host):
                played.record.opened = moment
            return played

        played_by(opened)
        (result,) = run(F1)
        assert result.control is not None
        assert (result.stock.record.opened, result.control.record.opened) == (moment, None)
        run.session.finish()
        stored = json.loads((run.root / "results.json").read_text())
        jsonschema.validate(stored, schema())
        assert stored["scenarios"][0]["stock"]["record"]["opened"] == "2026-01-02T03:04:05Z"

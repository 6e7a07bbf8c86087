"""What a cell says about a mutant, and what the cells add up to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from harness.base.errors import ExitStatus
from harness.judge.judgement import Check, Outcome, Verdict
from harness.model.observation import Checkpoint
from harness.report.matrix import KillMatrix, MatrixCell, MutantFate, Row, cell
from harness.report.matrix_table import lines, summary
from harness.report.results import HostSummary, Side
from suites.selftest.fakes.samplerun import judge, side

PASS, FAIL, CRASH = Verdict.PASS, Verdict.FAIL, Verdict.CRASH


def played(verdict: Verdict, *failed: str) -> Side:
    """A side that failed these checks."""
    checks = tuple(Check(Checkpoint.C6, "xen", subject, "a", "b", Outcome.VIOLATED) for subject in failed)
    return side("x", replace(judge(verdict, "because", taken=False), checks=checks))


def one(verdict: Verdict, *failed: str, stock: MatrixCell | None = None, ending: str = "E1") -> MatrixCell:
    return cell(f"{ending}-F1", ending, played(verdict, *failed), 1.0, stock)


CLEAN = one(PASS)
FLAWED = one(FAIL, "irq 44")


class TestCell:
    @pytest.mark.parametrize(
        ("verdict", "failed", "stock", "fate"),
        [
            (PASS, (), CLEAN, MutantFate.SURVIVED),
            (FAIL, ("owner",), CLEAN, MutantFate.KILLED),
            (FAIL, ("irq 45",), FLAWED, MutantFate.SURVIVED),  # the same failure as on stock, by another irq
            (FAIL, ("irq 45", "owner"), FLAWED, MutantFate.KILLED),
            (PASS, (), FLAWED, MutantFate.SURVIVED),
            (CRASH, (), CLEAN, MutantFate.CRASHED),
            (CRASH, (), one(CRASH), MutantFate.SURVIVED),
            (Verdict.ERROR, (), CLEAN, MutantFate.UNDECIDED),
            (Verdict.UNDECIDED, ("owner",), CLEAN, MutantFate.UNDECIDED),
            (Verdict.SKIP, (), CLEAN, MutantFate.UNDECIDED),
            (FAIL, ("owner",), one(Verdict.ERROR), MutantFate.UNDECIDED),  # nobody knows what stock does there
        ],
    )
    def test_fate(self, verdict: Verdict, failed: tuple[str, ...], stock: MatrixCell, fate: MutantFate) -> None:
        assert one(verdict, *failed, stock=stock).fate is fate

    def test_the_reason_is_what_stock_does_not_fail(self) -> None:
        killed = one(FAIL, "irq 45", "owner", stock=FLAWED)
        assert killed.reason == "C6 xen: owner: expected a, seen b"

    def test_what_is_missing_is_no_violation(self) -> None:
        judged = played(FAIL, "owner").judgement
        unseen = replace(judged.checks[0], outcome=Outcome.MISSING, subject="view")
        made = side("x", replace(judged, checks=(*judged.checks, unseen)))
        assert cell("E1-F1", "E1", made, 1.0, CLEAN).violations == ("xen owner at C6",)


def row(*cells: MatrixCell, **more: Any) -> Row:  # noqa: ANN401 - any field of a row
    fields: dict[str, Any] = {"name": "m", "layer": "dom0", "stands_for": "a defect", "notices": (), "equivalent": None}
    return Row(**(fields | {"fits": True, "planted": None, "cells": cells} | more))


SURVIVED, KILLED = one(PASS, stock=CLEAN), one(FAIL, "owner", stock=CLEAN)
CRASHED, UNDECIDED = one(CRASH, stock=CLEAN), one(Verdict.ERROR, stock=CLEAN)


class TestRow:
    @pytest.mark.parametrize(
        ("cells", "fate"),
        [
            ((), MutantFate.NOT_RUN),
            ((SURVIVED,), MutantFate.SURVIVED),
            ((SURVIVED, KILLED), MutantFate.KILLED),
            ((CRASHED, KILLED), MutantFate.KILLED),
            ((SURVIVED, CRASHED), MutantFate.CRASHED),
            ((SURVIVED, UNDECIDED), MutantFate.UNDECIDED),
            ((UNDECIDED, KILLED), MutantFate.KILLED),
        ],
    )
    def test_one_observation_is_enough(self, cells: tuple[MatrixCell, ...], fate: MutantFate) -> None:
        assert row(*cells).fate is fate

    def test_proven_invisible(self) -> None:
        assert row(SURVIVED, equivalent="nobody reads it").fate is MutantFate.EQUIVALENT
        assert row(KILLED, equivalent="nobody reads it").fate is MutantFate.KILLED

    def test_made_for_another_stack(self) -> None:
        assert row(fits=False).fate is MutantFate.MISFIT

    def test_a_promise_that_was_not_kept(self) -> None:
        seen = one(FAIL, "owner", stock=CLEAN, ending="E14")
        assert row(SURVIVED, seen, notices=("E1", "E14", "E2")).broken_promises == ("E1",)


def matrix(*rows: Row, stock: tuple[MatrixCell, ...] = (CLEAN,)) -> KillMatrix:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return KillMatrix(
        tool_version="0.1.0",
        run_id="r",
        started=moment,
        ended=moment,
        host=HostSummary(name="nested-trixie", nested=True, facts={"stack": "trixie", "xen_version": "4.20.4"}),
        scenarios=("E1-F1",),
        stock=stock,
        mutants=rows,
    )


class TestMatrix:
    @pytest.mark.parametrize(
        ("rows", "score", "status"),
        [
            ([row(KILLED)], (1, 1), ExitStatus.OK),
            ([row(KILLED), row(CRASHED)], (2, 2), ExitStatus.OK),
            ([row(KILLED), row(SURVIVED)], (1, 2), ExitStatus.FAILED),
            ([row(KILLED), row(SURVIVED, equivalent="proof")], (1, 1), ExitStatus.OK),
            ([row(SURVIVED, equivalent="proof")], (0, 0), ExitStatus.OK),
            ([row(KILLED, equivalent="a wrong proof")], (1, 1), ExitStatus.FAILED),
            ([row(KILLED), row(UNDECIDED)], (1, 2), ExitStatus.UNDECIDED),
            ([row(SURVIVED), row(UNDECIDED)], (0, 2), ExitStatus.FAILED),
            ([row(KILLED), row()], (1, 1), ExitStatus.UNDECIDED),
            ([row(fits=False)], (0, 0), ExitStatus.NOTHING_RAN),
            ([], (0, 0), ExitStatus.NOTHING_RAN),
        ],
    )
    def test_score(self, rows: list[Row], score: tuple[int, int], status: ExitStatus) -> None:
        made = matrix(*rows)
        assert ((made.seen, made.planted), made.exit_status) == (score, status)

    def test_it_is_read_back_and_counted_again(self) -> None:
        made = matrix(row(KILLED), row(SURVIVED))
        text = made.model_dump_json()
        assert '"seen":1' in text and '"fate":"survived"' in text
        assert KillMatrix.model_validate_json(text) == made
        assert KillMatrix.model_validate_json(text.replace('"seen":1', '"seen":2')).seen == 1

    def test_a_failure_on_stock_is_a_false_alarm(self) -> None:
        assert matrix(row(KILLED), stock=(FLAWED,)).false_alarms == 1
        known = FLAWED.model_copy(update={"known": ("stopped-device-model",)})
        assert matrix(row(KILLED), stock=(known,)).false_alarms == 0


class TestTable:
    def test_every_fate_is_told(self) -> None:
        made = matrix(
            row(KILLED, name="dead"),
            row(SURVIVED, name="alive", notices=("E1",)),
            row(CRASHED, name="bang"),
            row(UNDECIDED, name="open"),
            row(SURVIVED, name="same", equivalent="the flag is written again"),
            row(name="other", fits=False),
        )
        told = list(lines(made, width=80))
        text = "\n".join(" ".join(line.split()) for line in told)
        assert "dead K killed" in text
        assert "alive s survived" in text
        assert "bang C crashed" in text
        assert "open ? undecided" in text
        assert "other . does not fit" in text
        assert "alive survived: 1 scenarios saw nothing. It stands for: a defect" in text
        assert "alive was not noticed by E1, as promised" in text
        assert "same equivalent: as proven: the flag is written again" in text
        assert all(len(line) <= 80 for line in told)

    def test_summary(self) -> None:
        made = matrix(row(KILLED), row(CRASHED), row(SURVIVED))
        told = summary(made)
        stock = "0 of 1 scenarios fail on stock otherwise than known"
        assert told == f"seen 2/3, 1 of them by a crash, 1 survived, {stock}; 0 min"

    def test_a_wrong_proof_is_told(self) -> None:
        text = " ".join(" ".join(lines(matrix(row(KILLED, equivalent="a wrong proof")))).split())
        assert "m was seen though it is called equivalent: E1-F1: C6 xen: owner: expected a, seen b" in text

    def test_what_a_guest_says_cannot_move_the_cursor(self) -> None:
        evil = KILLED.model_copy(update={"reason": "\x1b[2J", "fate": MutantFate.UNDECIDED})
        assert "\x1b" not in "\n".join(lines(matrix(row(evil))))

"""Which rows of a run are told to be of which day."""

from __future__ import annotations

from datetime import UTC, datetime

from harness.report.days import days
from harness.report.results import RunResult, ScenarioResult, Side
from suites.selftest.fakes.samplerun import build, scenarios

MONDAY, TUESDAY = (datetime(2026, 1, day, 23, 30, tzinfo=UTC) for day in (5, 6))


def run(stock: datetime, control: datetime, **of_control: datetime) -> RunResult:
    one = next(one for one in scenarios() if one.control)

    def at(side: Side | None, began: datetime, **more: datetime) -> Side:
        assert side is not None
        return side.model_copy(update={"began": began, **more})

    other: ScenarioResult = one.model_copy(update={"id": "other", "stock": at(one.stock, MONDAY), "control": None})
    sides = {"stock": at(one.stock, stock), "control": at(one.control, control, **of_control)}
    return build([one.model_copy(update={"id": "both", **sides}), other])


def test_one_day_says_nothing() -> None:
    assert days(run(MONDAY, MONDAY)) == []


def test_each_day_has_its_rows_and_a_side_alone_is_named() -> None:
    assert days(run(TUESDAY, TUESDAY)) == ["played on 2026-01-05: other", "played on 2026-01-06: both"]
    assert days(run(MONDAY, TUESDAY)) == [
        "played on 2026-01-05: both (stock), other",
        "played on 2026-01-06: both (control)",
    ]


def test_a_kept_proof_is_of_no_day_of_the_run() -> None:
    assert days(run(TUESDAY, MONDAY, kept=MONDAY)) == ["played on 2026-01-05: other", "played on 2026-01-06: both"]
    assert days(run(MONDAY, TUESDAY, kept=TUESDAY)) == []

"""Tests that somebody wrote: what each of their items came to, and from both items of a test its result."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from harness.base.strict import StrictModel
from harness.judge.judgement import Verdict
from harness.report.begun import NAME, Begun
from harness.report.results import CaseResult, CaseSide, Control, HostSummary, RunResult
from harness.run.session import store_run
from harness.run.store import write_atomically
from harness.scenario.case import CaseRecord

NOT_PLAYED = "was not played"


class CasePlayed(StrictModel):
    """One item as its process tells of it. `control`: the hypervisor on which the test promises to fail."""

    id: str
    title: str
    tested: str
    control: str | None
    side: CaseSide
    host: HostSummary
    planted: tuple[Control, ...] = ()
    command_to_repeat: str


def results(played: Iterable[CasePlayed]) -> list[CaseResult]:
    """A result for each test, in the order in which they ended. What was played again counts as it ended last."""
    sides: dict[str, dict[str, CasePlayed]] = {}
    for one in played:
        sides.setdefault(one.id, {})[one.side.hypervisor] = one
    return [_result(list(both.values())) for both in sides.values()]


def _result(items: Sequence[CasePlayed]) -> CaseResult:
    one = items[0]
    stock = next((item.side for item in items if item.side.hypervisor == one.tested), None)
    control = next((item.side for item in items if item.side.hypervisor == one.control), None)
    missing = [name for name, side in ((one.tested, stock), (one.control, control)) if name and side is None]
    return CaseResult.of(
        stock or _absent(one),
        control,
        wanted=one.control is not None,
        id=one.id,
        title=one.title,
        devices=tuple(one.side.record.devices),
        remark=f"the side on {missing[0]} {NOT_PLAYED}" if missing else "",
        seconds=round(sum(item.side.seconds for item in items), 3),
        command_to_repeat=one.command_to_repeat,
    )


def _absent(one: CasePlayed) -> CaseSide:
    """The side under test, where only the control was asked for."""
    return CaseSide(
        hypervisor=one.tested,
        verdict=Verdict.UNDECIDED,
        reason=NOT_PLAYED,
        record=CaseRecord(),
        seconds=0,
        raw_directory="",
        log="",
    )


def finish(played: Sequence[CasePlayed], folder: Path, started: datetime, ended: datetime) -> RunResult:
    """The run of these tests alone, written to results.json and junit.xml in `folder`."""
    cases = results(played)
    _begin(played, folder, started)
    result = RunResult.of(
        [],
        tool_version=importlib.metadata.version("maskall"),
        run_id=folder.name,
        started=started,
        ended=ended,
        host=played[0].host,
        controls={control.name: control for one in played for control in one.planted}.values(),
        overhead_seconds=0,
        cases=cases,
    )
    store_run(result, folder)
    return result


def _begin(played: Sequence[CasePlayed], folder: Path, started: datetime) -> None:
    """run.json, by which `maskall judge` knows the host; tests have no part in it that is not in their results."""
    begun = Begun(
        tool_version=importlib.metadata.version("maskall"),
        run_id=folder.name,
        started=started,
        host=played[0].host,
        scenarios=(),
        under_test=played[0].tested,
        control=next((one.control for one in played if one.control), None),
        notices=(),
        known_issues=None,
        repeat_options="",
    )
    write_atomically(folder / NAME, begun.model_dump_json(indent=1).encode() + b"\n")

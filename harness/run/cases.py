"""Tests that somebody wrote: what each of their items came to, and from both items of a test its result."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from harness.base.errors import EvidenceError
from harness.base.stored import to_json
from harness.base.strict import StrictModel
from harness.evidence.sealed import read_inside
from harness.evidence.store import digest
from harness.judge.judgement import Verdict
from harness.report.begun import NAME, Begun
from harness.report.results import CaseResult, CaseSide, Control, HostSummary, RunResult
from harness.run.chain import Chain
from harness.run.session import store_run
from harness.run.store import RESULTS, write_atomically
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

    def store(self, folder: Path) -> None:
        """Write it beside its raw files, as record.json, in the directory of the run."""
        write_atomically(folder / self.side.told, to_json(self))


def ended(one: CasePlayed, folder: Path, started: datetime, challenge: str | None) -> None:
    """Add it to the chain of the run in `folder`, which begins with the first test if it has no scenario."""
    if not (folder / NAME).exists():
        _begin(one, folder, started, challenge)
    _chained("ended", folder, one.side.told)


def told_of(root: Path, side: CaseSide) -> CasePlayed:
    """What the process that played it tells of `side`. EvidenceError when its record cannot be read."""
    try:
        return CasePlayed.model_validate_json(read_inside(root, side.told))
    except ValidationError as error:
        raise EvidenceError(f"{side.told!r}: {error.errors(include_url=False)[0]['msg']}") from error


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
    result = RunResult.of(
        [],
        tool_version=importlib.metadata.version("maskall"),
        run_id=folder.name,
        started=started,
        ended=ended,
        host=played[0].host,
        controls={control.name: control for one in played for control in one.planted}.values(),
        overhead_seconds=0,
        cases=results(played),
    )
    store_run(result, folder)
    _chained("finished", folder, RESULTS)
    return result


def _begin(one: CasePlayed, folder: Path, started: datetime, challenge: str | None) -> None:
    """run.json, by which `maskall judge` knows the host; tests have no part in it that is not in their results."""
    begun = Begun(
        tool_version=importlib.metadata.version("maskall"),
        run_id=folder.name,
        started=started,
        host=one.host,
        scenarios=(),
        under_test=one.tested,
        control=None,
        notices=(),
        known_issues=None,
        repeat_options="",
        challenge=challenge,
    )
    write_atomically(folder / NAME, begun.model_dump_json(indent=1).encode() + b"\n")
    _chained("begun", folder, NAME)


def _chained(what: str, folder: Path, file: str) -> None:
    Chain(folder).add(what, file, digest((folder / file).read_bytes()))

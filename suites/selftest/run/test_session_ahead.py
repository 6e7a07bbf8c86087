"""Several scenarios at a time: what they come to is what they come to one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.base.deadline import poll
from harness.base.errors import LabError
from harness.base.progress import PlainProgress
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.play.run import PlayedSide
from harness.run import store
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.session import Session
from harness.run.side import SideOutcome, wall
from harness.scenario.spec import Scenario
from suites.selftest.fakes.goodrecord import scenario
from suites.selftest.fakes.patience import FOREVER, soon
from suites.selftest.fakes.sessionrun import MUTANT, MUTANTS, FakeLab, Player, essence, honest, played_by

__all__ = ["played_by"]

pytestmark = pytest.mark.usefixtures("played_by")
ROWS = tuple(scenario(*row) for row in (("E14", "F1"), ("E1", "F1"), ("E14", "F8"), ("E3", "F1")))


def session(root: Path, workers: int = 2, rows: tuple[Scenario, ...] = ROWS) -> Session:
    plan = Plan(rows, RunOptions(mutant=MUTANT, workers=workers), MUTANTS, {}, root)
    return Session(FakeLab(), plan, PlainProgress((root.parent / "screen").open("w")))


def lab_of(made: Session) -> FakeLab:
    assert isinstance(made.lab, FakeLab)
    return made.lab


def test_the_results_are_those_of_one_by_one(tmp_path: Path) -> None:
    ahead, alone = session(tmp_path / "a"), session(tmp_path / "b", workers=1)
    assert essence([ahead.run(row) for row in ROWS]) == essence([alone.run(row) for row in ROWS])
    ahead.stop()
    assert [one.id for one in ahead.finish().scenarios] == [row.id for row in ROWS]
    assert not lab_of(ahead).aborted


def test_as_many_hosts_as_workers(tmp_path: Path, played_by: Callable[[Player], None]) -> None:
    meeting = threading.Barrier(2, timeout=FOREVER)
    names: set[str] = set()

    def meet(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
        names.add(row.id)
        meeting.wait()
        return honest(row, host, evidence)

    played_by(meet)
    rows = (ROWS[1], ROWS[3])  # a control has nothing to tell about them
    made = session(tmp_path / "a", rows=rows)
    made.run(rows[0])
    assert names == {row.id for row in rows}
    assert lab_of(made).most == 2


def test_in_the_order_of_the_plan_whatever_ends_first(tmp_path: Path, played_by: Callable[[Player], None]) -> None:
    rows = (ROWS[1], ROWS[3])
    made = session(tmp_path / "a", rows=rows)

    def slow_first(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
        if row is rows[0]:
            assert poll(lambda: made.finished, soon())
        return honest(row, host, evidence)

    played_by(slow_first)
    assert [made.run(row).id for row in rows] == [row.id for row in rows]
    assert [one.id for one in made.finished] == [rows[1].id, rows[0].id]
    assert [one.id for one in made.finish().scenarios] == [row.id for row in rows]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_ends_one_ends_all_and_leaves_no_result(
    tmp_path: Path, played_by: Callable[[Player], None], error: type[BaseException]
) -> None:
    made = session(tmp_path / "a", rows=(ROWS[1], ROWS[3]))
    begun = threading.Event()

    def broken(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
        if row is ROWS[1]:
            assert begun.wait(FOREVER)
            raise error
        begun.set()
        assert poll(lambda: lab_of(made).aborted, soon())
        raise LabError("the run was interrupted")

    played_by(broken)
    with pytest.raises(error):
        made.run(ROWS[1])
    assert made.finished == []
    assert lab_of(made).now == 0


def test_what_is_asked_for_goes_first(tmp_path: Path) -> None:
    made = session(tmp_path / "a", workers=1)
    assert made.run(ROWS[2]).id == ROWS[2].id
    assert [one.id for one in made.finished] == [ROWS[2].id], "one place plays nothing that nobody asked for"
    assert made.run(ROWS[2]) is made.finished[0], "asked for again it is not played again"


def test_a_side_is_on_disk_as_it_ends(tmp_path: Path, played_by: Callable[[Player], None]) -> None:
    made = session(tmp_path / "a", workers=1, rows=ROWS[:1])
    stock = tmp_path / "a" / "logs" / f"{ROWS[0].id}.stock.log"
    seen: list[bool] = []

    def look(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
        seen.append(stock.exists())
        return honest(row, host, evidence)

    played_by(look)
    made.run(ROWS[0])
    assert seen == [False, True], "the control begins when what stock came to is stored"


def test_what_goes_wrong_while_a_side_is_stored_ends_the_others(
    tmp_path: Path, played_by: Callable[[Player], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = session(tmp_path / "a", rows=(ROWS[1], ROWS[3]))

    def slow_second(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
        if row is ROWS[3]:
            assert poll(lambda: lab_of(made).aborted, soon())
        return honest(row, host, evidence)

    def interrupted(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    played_by(slow_second)
    monkeypatch.setattr(store, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.run(ROWS[1])
    assert lab_of(made).now == 0


def side(began: float, ended: float, covered: float) -> SideOutcome:
    return SideOutcome(ROWS[0], "stock", Mock(), None, began, ended, covered)


@pytest.mark.parametrize(
    ("sides", "seconds"),
    [
        ([], 0),
        ([side(0, 10, 10), side(13, 23, 10)], 20),  # one after the other counts in full, what is between does not
        ([side(0, 10, 10), side(0, 10, 10)], 10),  # two at once count half each
        ([side(0, 10, 10), side(0, 10, 8)], 9),
        ([side(0, 10, 10), side(2, 4, 2)], 10),
        ([side(3, 3, 0)], 0),
    ],
)
def test_seconds_of_the_wall_inside_phases(sides: list[SideOutcome], seconds: float) -> None:
    assert wall(sides) == pytest.approx(seconds)

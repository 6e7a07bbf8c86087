"""The book of many runs, and what it is good for."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from harness.base.errors import UsageError
from harness.cli.entry import main
from harness.judge.judgement import Conclusion
from harness.report.results import RunResult
from harness.run import history
from harness.run.options import RunOptions
from harness.run.selection import chosen
from harness.run.shard import shard
from suites.selftest.fakes.goodrecord import scenario
from suites.selftest.fakes.samplerun import build, scenarios

GOOD, BAD = Conclusion.PROVEN, Conclusion.REGRESSION


def night(number: int, conclusion: Conclusion, xen: str = "4.20.1", seconds: float = 60.0) -> RunResult:
    row = next(one for one in scenarios() if one.conclusion is GOOD)
    row = row.model_copy(update={"conclusion": conclusion, "seconds": seconds})
    run = build([row])
    host = run.host.model_copy(update={"facts": {"xen_version": xen, "kernel": "6.12", "host": "x"}})
    later = timedelta(days=number)
    update = {"run_id": f"night-{number}", "host": host, "started": run.started + later, "ended": run.ended + later}
    return run.model_copy(update=update)


ID = night(0, GOOD).scenarios[0].id


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "lab.sqlite"


def said(book: Path, capsys: pytest.CaptureFixture[str], status: int = 0) -> str:
    assert main(["history", ID, "--history", str(book)]) == status
    return capsys.readouterr().out


def test_last_good_first_bad_and_what_moved(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (conclusion, xen) in enumerate(
        [(GOOD, "4.20.1"), (GOOD, "4.20.1"), (BAD, "4.20.2"), (BAD, "4.20.3")], 1
    ):
        history.add(book, night(number, conclusion, xen))
    text = said(book, capsys, 1)
    assert "PROVEN       run night-2 on" in text.split("last good")[1].splitlines()[0]
    assert "REGRESSION   run night-3 on" in text.split("first bad")[1].splitlines()[0]
    assert "xen_version: 4.20.1 was good, 4.20.2 is bad" in text and "kernel" not in text
    assert "with the components of today: 100.0 % (20.7 to 100.0 %) of 1 runs" in text
    assert "in all: 50.0 % (15.0 to 85.0 %) of 4 runs" in text


def test_it_flickers(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 21):
        history.add(book, night(number, BAD if number == 7 else GOOD))
    text = said(book, capsys)
    assert "5.0 % (0.9 to 23.6 %) of 20 runs" in text and "it flickers" in text
    assert "first bad" not in text, "it was good since"


def test_a_run_that_went_on_is_one_run(book: Path) -> None:
    history.add(book, night(1, BAD))
    history.add(book, night(1, GOOD))
    (one,) = history.played(book, ID)
    assert one.good


def test_never_played(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", ID, "--history", str(book)]) == 2
    assert "there is no " in capsys.readouterr().err
    assert not book.exists(), "a question makes no file"
    history.add(book, night(1, GOOD))
    assert main(["history", f"{ID}x", "--history", str(book)]) == 2
    assert f"did you mean {ID!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be read as one" * 40, b"SQLite format 3\0"]
)
def test_another_file_is_left_alone(book: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    book.write_bytes(content)
    for argv in (["history", ID, "--history", str(book)], ["run", "--profile", "smoke", "--history", str(book)]):
        assert main(argv) == 2
        assert f"{book}" in capsys.readouterr().err
    assert book.read_bytes() == content


def test_a_mistake_makes_no_file(book: Path, tmp_path: Path) -> None:
    assert main(["run", "--profile", "smok", "--history", str(book)]) == 2
    assert not book.exists()
    assert main(["run", "--profile", "smoke", "--history", str(tmp_path / "nowhere/lab.sqlite")]) == 2


def test_of_somebody_else_or_of_another_version(book: Path) -> None:
    with sqlite3.connect(book) as other:
        other.execute("create table run (id integer)")
    other.close()
    with pytest.raises(UsageError, match="is no history, or one of another version"):
        history.add(book, night(1, GOOD))


class TestShard:
    ROWS = tuple(scenario(ending, "F1", device="nvme") for ending in ("E1", "E2", "E3", "E5", "E14"))
    TIMES: ClassVar = {row.id: seconds for row, seconds in zip(ROWS, (10.0, 100.0, 20.0, 30.0, 90.0), strict=True)}

    def test_every_row_is_in_one_part(self) -> None:
        parts = [shard(self.ROWS, f"{number}/3", self.TIMES) for number in (1, 2, 3)]
        assert sorted(row.id for part in parts for row in part) == sorted(row.id for row in self.ROWS)

    def test_they_take_about_as_long_and_begin_with_the_slowest(self) -> None:
        parts = [shard(self.ROWS, f"{number}/2", self.TIMES) for number in (1, 2)]
        assert [sum(self.TIMES[row.id] for row in part) for part in parts] == [130.0, 120.0]
        assert [part[0].ending for part in parts] == ["E2", "E14"]

    def test_without_times_they_are_as_many(self) -> None:
        assert [len(shard(self.ROWS, f"{number}/2", {})) for number in (1, 2)] == [3, 2]

    @pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "a/b", "-1/2", "1/100", "1/2/3", ""])
    def test_no_part(self, text: str) -> None:
        with pytest.raises(UsageError, match="is no part"):
            chosen(RunOptions(shard=text))

    def test_more_parts_than_rows(self) -> None:
        with pytest.raises(UsageError, match="take fewer parts"):
            shard(self.ROWS[:1], "2/2", {})

    def test_by_the_times_of_earlier_runs(self, book: Path) -> None:
        for number, seconds in enumerate((10.0, 20.0, 60.0)):
            history.add(book, night(number, GOOD, seconds=seconds))
        assert history.times(book) == {ID: 30.0}
        every = chosen(RunOptions(profile="ci"))
        parts = [chosen(RunOptions(profile="ci", shard=f"{n}/2", history=book)) for n in (1, 2)]
        assert sorted(row.id for part in parts for row in part) == sorted(row.id for row in every)
